"""Identity preference optimization (Azar et al. 2023, arXiv:2310.12036, equation 17).

    L = (s_w - s_l - 1 / (2 beta))^2,    s = (log pi(y|x) - log ref(y|x)) / |y|

`beta` is the paper's tau. Its equation has sums over tokens; the mean per token, without which the target would depend
on length, is what the authors confirmed to TRL that they measured with.
"""

from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, DivergencePairs


class IPO(DivergencePairs):
    """Bring the margin of every pair to one finite target, instead of ever further up."""

    beta: float = Field(default=0.1, gt=0)
    """The target margin is 1 / (2 beta); 0.1 is TRL's, and the smallest the paper tries."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,)."""
        score_chosen, score_rejected = self.scores(chosen, rejected)
        return (score_chosen / chosen.length - score_rejected / rejected.length - 1 / (2 * self.beta)) ** 2
