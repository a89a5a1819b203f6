"""Contrastive preference optimization (Xu et al. 2024, arXiv:2401.08417, equation 3).

    L = - log sigmoid(beta (log pi(y_w|x) - log pi(y_l|x))) + cpo_alpha NLL,    NLL = - 1/|y_w| sum_t log pi(y_w,t | x)

The likelihood is a mean over the answer's tokens, as in the authors' code; the equation has a sum. Label smoothing e:
(1 - e) L(w, l) + e L(l, w) of the first term.
"""

from pydantic import Field
from torch import Tensor

from poise.batch.logps import Logps, preference_metrics
from poise.batch.preference import Pairs, logistic


class CPO(Pairs):
    """Raise the chosen answer over the rejected one and learn it, with no reference."""

    beta: float = Field(default=0.1, gt=0)
    """Scale of the difference of log-probabilities; 0.1 is the paper's."""
    cpo_alpha: float = Field(default=1.0, ge=0)
    """Weight of the likelihood of the chosen answer; 1 is the paper's."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose preference is the wrong way round."""

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (pairs,) in nats and metrics, each (pairs,)."""
        chosen, rejected = policy.pairs(self.beta * policy.sum())
        nll = -policy.pairs(policy.mean())[0]
        losses = logistic(chosen - rejected, self.label_smoothing) + self.cpo_alpha * nll
        return losses, preference_metrics(policy, chosen, rejected) | {"nll": nll.detach()}
