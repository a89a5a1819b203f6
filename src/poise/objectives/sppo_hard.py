"""Self-play preference optimization, hard labels (Wu et al. 2024, arXiv:2405.00675, equation 4.7).

    L = (r_w - 1 / (2 beta))^2 + (r_l + 1 / (2 beta))^2

r is the log-ratio to the reference; `beta` is 1 / eta of the paper, whose probability of winning is 1 for the chosen
answer and 0 for the rejected one. One run is one iteration of the paper's play.
"""

from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, SeparatePairs


class SPPOHard(SeparatePairs):
    """Bring each answer's log-ratio to a target of its own, half a game's gain up or down."""

    beta: float = Field(default=0.001, gt=0)
    """The targets are 1 / (2 beta) up and down; 0.001 is the paper's eta of 1000."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,)."""
        target = 0.5 / self.beta
        return (chosen.ratio - target) ** 2 + (rejected.ratio + target) ** 2
