"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

    L = - log sigmoid(beta (log pi(y_w|x)/ref(y_w|x) - log pi(y_l|x)/ref(y_l|x)))

with label smoothing e as in conservative DPO (Mitchell 2023): (1 - e) L(w, l) + e L(l, w).
"""

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from poise.batch.logps import Logps, preference_metrics
from poise.batch.objective import Objective


class DPO(Objective):
    """Raise the chosen answer over the rejected one, measured from a frozen reference."""

    unit: ClassVar[Literal["tokens", "pairs"]] = "pairs"
    rows: ClassVar[tuple[str, ...]] = ("preference_pair",)
    needs_reference: ClassVar[bool] = True

    beta: float = Field(default=0.1, gt=0)
    """How strongly the policy is held to the reference; 0.1 is the paper's."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose preference is the wrong way round."""

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (pairs,) in nats and metrics, each (pairs,)."""
        assert reference is not None
        ratio_chosen, ratio_rejected = policy.pairs(policy.sum() - reference.sum())
        margins = self.beta * (ratio_chosen - ratio_rejected)
        losses = -F.logsigmoid(margins) * (1 - self.label_smoothing) - F.logsigmoid(-margins) * self.label_smoothing
        return losses, preference_metrics(policy, self.beta * ratio_chosen, self.beta * ratio_rejected)
