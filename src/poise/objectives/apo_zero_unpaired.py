"""Anchored preference optimization on unpaired answers (D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 7).

    L = w(y) (1 - sigmoid(beta r))  where y is desirable,  w(y) sigmoid(beta r)  where it is not
    r = log pi(y|x) - log ref(y|x)

APO-zero's two terms, each on its own answer: KTO whose anchor is the reference itself, for data that is better than
what the model would write. Nothing is estimated over a step, and no other row's answer is scored.
"""

import torch
from torch import Tensor

from poise.batch.unpaired import UnpairedAnswers


class APOZeroUnpaired(UnpairedAnswers):
    """Raise desirable answers and lower undesirable ones, each from where the reference has it."""

    def losses(self, ratios: Tensor, signs: Tensor, estimate: Tensor) -> Tensor:
        """Return the loss of each answer before its weight, (answers,)."""
        return torch.sigmoid(-self.beta * signs * ratios)
