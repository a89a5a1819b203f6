"""Hinge loss on preferences (SLiC-HF, Zhao et al. 2023, arXiv:2305.10425; with a reference, Liu et al. 2023, RSO).

    L = max(0, 1 - beta (log pi(y_w|x)/ref(y_w|x) - log pi(y_l|x)/ref(y_l|x)))

RSO (arXiv:2309.06657) calls it hinge-norm; its gamma is `beta`.
"""

import torch
from torch import Tensor

from poise.batch.preference import Answers, DivergencePairs


class Hinge(DivergencePairs):
    """Raise the chosen answer over the rejected one up to a margin of 1, and leave the pair alone from there."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,)."""
        return torch.relu(1 - self.margins(chosen, rejected))
