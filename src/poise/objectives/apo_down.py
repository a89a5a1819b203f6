"""Anchored preference optimization, down (D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 8).

    L = sigmoid(beta r_w) + 1 - sigmoid(beta (r_w - r_l))

r is the log-ratio to the reference. For pairs whose chosen answers are worse than what the model writes by itself.
"""

import torch
from torch import Tensor

from poise.batch.preference import Answers, SeparatePairs


class APODown(SeparatePairs):
    """Lower both answers, the rejected one more."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), between 0 and 2."""
        margins = self.beta * (chosen.ratio - rejected.ratio)
        return torch.sigmoid(self.beta * chosen.ratio) + torch.sigmoid(-margins)
