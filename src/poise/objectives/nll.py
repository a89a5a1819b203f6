"""Negative log-likelihood of the chosen answers (MPO, Wang et al. 2024, arXiv:2411.10442, section 3).

    L = - 1/|y_w| sum_t log pi(y_w,t | x)

The part that RPO (Pang et al. 2024, arXiv:2404.19733) adds to DPO; other tools call it `sft` in a list of losses. Every
answer weighs the same, however long, as in both papers.
"""

from torch import Tensor

from poise.batch.logps import Logps
from poise.batch.preference import Pairs


class NLL(Pairs):
    """Learn the chosen answers of pairs; the rejected ones are only measured."""

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (pairs,) in nats and metrics, each (pairs,)."""
        losses = -policy.pairs(policy.mean())[0]
        logps_chosen, logps_rejected = policy.pairs(policy.sum().detach())
        return losses, {"nll": losses.detach(), "logps/chosen": logps_chosen, "logps/rejected": logps_rejected}
