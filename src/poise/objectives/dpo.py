"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

    L = - log sigmoid(beta (log pi(y_w|x)/ref(y_w|x) - log pi(y_l|x)/ref(y_l|x)))

with label smoothing e as in conservative DPO (Mitchell 2023): (1 - e) L(w, l) + e L(l, w).
"""

from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, DivergencePairs, logistic


class DPO(DivergencePairs):
    """Raise the chosen answer over the rejected one, measured from a frozen reference."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose preference is the wrong way round."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), in nats."""
        return logistic(self.margins(chosen, rejected), self.label_smoothing)
