"""Simple preference optimization (SimPO, Meng, Xia and Chen 2024, arXiv:2405.14734, equation 6).

    L = - log sigmoid(beta (l_w - l_l) - gamma),    l = 1/|y| sum_t log pi(y_t | x)

gamma is `simpo_gamma`. CPO-SimPO (github.com/fe1ixxu/CPO_SIMPO) adds - cpo_alpha l_w. Label smoothing e:
(1 - e) sigmoid(m) and e sigmoid(-m) of the first term's margin m.
"""

from pydantic import Field
from torch import Tensor

from poise.batch.logps import Logps, preference_metrics
from poise.batch.preference import Pairs, logistic


class SimPO(Pairs):
    """Raise the chosen answer's average log-probability over the rejected one's by a margin, with no reference."""

    beta: float = Field(default=2.0, gt=0)
    """Scale of the difference of averages; 2 is the paper's."""
    simpo_gamma: float = Field(default=0.5, ge=0)
    """Target margin of the rewards; the paper tries 0.3 to 1.6, 0.5 is the default of its code and of TRL."""
    cpo_alpha: float = Field(default=0.0, ge=0)
    """Weight of the likelihood of the chosen answer (CPO-SimPO); the paper has none."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose preference is the wrong way round."""

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (pairs,) in nats and metrics, each (pairs,)."""
        mean_chosen, mean_rejected = policy.pairs(policy.mean())
        margins = self.beta * (mean_chosen - mean_rejected) - self.simpo_gamma
        losses = logistic(margins, self.label_smoothing) - self.cpo_alpha * mean_chosen
        metrics = preference_metrics(policy, self.beta * mean_chosen, self.beta * mean_rejected)
        return losses, metrics | {"nll": -mean_chosen.detach()}
