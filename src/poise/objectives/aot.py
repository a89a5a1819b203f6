"""Alignment via optimal transport, paired (Melnyk et al. 2024, arXiv:2406.05882, section 3).

    L_i = - log sigmoid(beta (a_(i) - b_(i)))
    a = log pi(y_w|x) - log pi(y_l|x),    b = log ref(y_w|x) - log ref(y_l|x)

a_(i) and b_(i) are the i-th smallest of the optimizer step: the distribution of the policy's margins is raised over the
reference's, quantile by quantile. Label smoothing e: (1 - e) L(a, b) + e L(b, a).
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, ReferencePairs, logistic


class AOT(ReferencePairs):
    """Raise the sorted margins of a step over the reference's sorted margins."""

    whole_step: ClassVar[bool] = True

    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose preference is the wrong way round."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each rank, (pairs,), in nats."""
        margins = (chosen.policy - rejected.policy).sort().values
        return logistic(
            self.beta * (margins - (chosen.reference - rejected.reference).sort().values), self.label_smoothing
        )
