"""Binary classifier optimization on pairs (Jung et al. 2024, arXiv:2404.04656, section 4).

    L = - log sigmoid(beta r_w) - log sigmoid(-beta r_l)

r is the log-ratio to the reference. The paper subtracts a running mean of rewards, delta; here, as in TRL, it is 0.
"""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, SeparatePairs


class BCOPair(SeparatePairs):
    """Classify each answer alone: chosen ones above the reference, rejected ones below it."""

    beta: float = Field(default=0.01, gt=0)
    """How strongly the policy is held to the reference; 0.01 is the paper's."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), in nats."""
        return -F.logsigmoid(self.beta * chosen.ratio) - F.logsigmoid(-self.beta * rejected.ratio)
