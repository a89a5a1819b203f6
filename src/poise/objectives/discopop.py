"""Discovered preference optimization (DiscoPOP, Lu et al. 2024, arXiv:2406.08414, equation 5).

    L = (1 - g) (- log sigmoid(m)) + g e^-m,    g = sigmoid(m / tau),    m = beta (r_w - r_l)

r is the log-ratio to the reference. A logistic loss on pairs that are the wrong way round, an exponential one on the
others: a blend that a language model proposed.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, DivergencePairs


class DiscoPOP(DivergencePairs):
    """Raise the chosen answer over the rejected one by a blend of logistic and exponential loss."""

    beta: float = Field(default=0.05, gt=0)
    """How strongly the policy is held to the reference; 0.05 is the paper's."""
    discopop_tau: float = Field(default=0.05, gt=0, le=1)
    """How sharply the blend turns at a margin of 0; 0.05 is the paper's. Above 1 the loss could grow without end."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,). Both products are taken in logarithms, where nothing overflows."""
        margins = self.margins(chosen, rejected)
        gates = margins / self.discopop_tau
        exponential = torch.exp(F.logsigmoid(gates) - margins)
        return -torch.sigmoid(-gates) * F.logsigmoid(margins) + exponential
