"""Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv:2402.01306, equations 7 and 8).

    v(x, y) = sigmoid(beta (r - z))  where y is desirable,  sigmoid(beta (z - r))  where it is not
    L = w(y) (1 - v(x, y)),    r = log pi(y|x) - log ref(y|x)
    z = max(0, mean over the optimizer step of log pi(y'|x) - log ref(y'|x)),  y' another row's answer, without gradient

w(y) is the paper's lambda_D or lambda_U.
"""

from typing import ClassVar

import torch
from torch import Tensor

from poise.batch.unpaired import UnpairedAnswers


class KTO(UnpairedAnswers):
    """Raise desirable answers and lower undesirable ones around what the policy gains on answers as such."""

    whole_step: ClassVar[bool] = True
    needs_mismatched: ClassVar[bool] = True

    def losses(self, ratios: Tensor, signs: Tensor, estimate: Tensor) -> Tensor:
        """Return the loss of each answer before its weight, (answers,)."""
        return torch.sigmoid(-self.beta * signs * (ratios - estimate))
