"""DPO normalised by length (Tülu 3, Lambert et al. 2024, arXiv:2411.15124, section 5).

    L = - log sigmoid(beta (r_w / |y_w| - r_l / |y_l|))

r is the log-ratio to the reference, |y| the answer's trained tokens.
"""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, DivergencePairs


class SigmoidNorm(DivergencePairs):
    """Raise the chosen answer over the rejected one per token, so that length alone gains nothing."""

    beta: float = Field(default=5.0, gt=0)
    """How strongly the policy is held to the reference; 5 is Tülu 3's, which acts per token."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), in nats."""
        score_chosen, score_rejected = self.scores(chosen, rejected)
        return -F.logsigmoid(self.beta * (score_chosen / chosen.length - score_rejected / rejected.length))
