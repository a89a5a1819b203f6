"""Noise contrastive alignment on pairs (Chen et al. 2024, arXiv:2402.05369, section 4.1).

    L = - log sigmoid(beta r_w) - 1/2 log sigmoid(-beta r_w) - 1/2 log sigmoid(-beta r_l)

r is the log-ratio to the reference. The second term keeps the chosen answer from being lowered with the rejected one.
"""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, SeparatePairs


class NCAPair(SeparatePairs):
    """Hold each answer's likelihood itself in place, not only the difference of the two."""

    beta: float = Field(default=0.01, gt=0)
    """How strongly the policy is held to the reference; 0.01 is the paper's."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), in nats."""
        reward_chosen, reward_rejected = self.beta * chosen.ratio, self.beta * rejected.ratio
        kept = F.logsigmoid(-reward_chosen) + F.logsigmoid(-reward_rejected)
        return -F.logsigmoid(reward_chosen) - kept / 2
