"""Efficient exact optimization on pairs (Ji et al. 2024, arXiv:2402.00856, equation 16).

    L = KL(p || q),    p = (sigmoid(m), sigmoid(-m)),    q = (1 - e, e),    m = beta (r_w - r_l)

r is the log-ratio to the reference. DPO minimises the divergence the other way round, KL(q || p).
"""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, DivergencePairs


class EXOPair(DivergencePairs):
    """Match the policy's preference to the labels' by the reverse divergence, which seeks the mode."""

    label_smoothing: float = Field(default=1e-3, gt=0, lt=0.5)
    """Probability that the rejected answer is the better one, e; 1e-3 is the paper's, and 0 has no finite loss."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), in nats."""
        margins = self.margins(chosen, rejected)
        right = torch.sigmoid(margins) * (F.logsigmoid(margins) - math.log1p(-self.label_smoothing))
        wrong = torch.sigmoid(-margins) * (F.logsigmoid(-margins) - math.log(self.label_smoothing))
        return right + wrong
