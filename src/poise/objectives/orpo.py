"""Odds ratio preference optimization (Hong, Lee and Thorne 2024, arXiv:2403.07691, equations 4 to 7).

    L = L_SFT + beta L_OR
    L_SFT = - mean_t log pi(y_w,t | x)
    L_OR  = - log sigmoid(log odds(y_w|x) - log odds(y_l|x)),   odds(y|x) = P / (1 - P),   log P = mean_t log pi(y_t|x)

`beta` is the paper's lambda under the name recipes use.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from poise.batch.logps import Logps, preference_metrics
from poise.batch.preference import Pairs


class ORPO(Pairs):
    """Learn the chosen answer and raise its odds over the rejected one, with no reference."""

    beta: float = Field(default=0.1, gt=0)
    """Weight of the odds-ratio term; 0.1 is the paper's."""

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (pairs,) in nats and metrics, each (pairs,)."""
        mean_chosen, mean_rejected = policy.pairs(policy.mean())
        log_odds = (mean_chosen - mean_rejected) - (_log1mexp(mean_chosen) - _log1mexp(mean_rejected))
        ratio_losses = -F.logsigmoid(log_odds)
        metrics = preference_metrics(policy, self.beta * mean_chosen, self.beta * mean_rejected)
        metrics |= {"nll": -mean_chosen.detach(), "log_odds": log_odds.detach()}
        return -mean_chosen + self.beta * ratio_losses, metrics


def _log1mexp(log_probability: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0 without cancellation (Mächler 2012); x is kept off 0, where it is minus infinity."""
    x = log_probability.clamp(max=-torch.finfo(log_probability.dtype).eps)
    return torch.where(x > -0.6931472, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
