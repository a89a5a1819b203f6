"""Alignment via optimal transport, unpaired (Melnyk et al. 2024, arXiv:2406.05882, section 3).

    L_i = - log sigmoid(beta (c_(i) - d_(i))),    c = log-ratios of chosen answers,    d = of rejected ones

c_(i) and d_(i) are the i-th smallest of the optimizer step: chosen rewards as a whole are raised over rejected ones,
whichever prompt they belong to. Label smoothing e: (1 - e) L(c, d) + e L(d, c).
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, ReferencePairs, logistic


class AOTUnpaired(ReferencePairs):
    """Raise the sorted rewards of a step's chosen answers over those of its rejected answers."""

    whole_step: ClassVar[bool] = True

    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose preference is the wrong way round."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each rank, (pairs,), in nats."""
        return logistic(self.beta * (chosen.ratio.sort().values - rejected.ratio.sort().values), self.label_smoothing)
