"""Anchored preference optimization, zero (D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 7).

    L = 1 - sigmoid(beta r_w) + sigmoid(beta r_l)

r is the log-ratio to the reference. For pairs whose chosen answers are better than what the model writes by itself.
"""

import torch
from torch import Tensor

from poise.batch.preference import Answers, SeparatePairs


class APOZero(SeparatePairs):
    """Raise the chosen answer and lower the rejected one, each from where the reference has it."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), between 0 and 2."""
        return torch.sigmoid(-self.beta * chosen.ratio) + torch.sigmoid(self.beta * rejected.ratio)
