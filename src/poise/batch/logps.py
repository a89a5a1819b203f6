"""Logps: the log-probabilities of a Batch's trained tokens under one model, and the sums objectives are made of."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Logps:
    """Per-token log-probabilities in nats, and which segment each token belongs to."""

    values: Tensor
    """(trained,) log-probability of each trained token given what precedes it."""
    owners: Tensor
    """(trained,) int64 segment of each token."""
    segments: int
    """Segments in the batch, with or without trained tokens."""
    chosen: Tensor
    """(pairs,) int64 segment of each preferred answer."""
    rejected: Tensor
    """(pairs,) int64 segment of each dispreferred answer."""

    def sum(self) -> Tensor:
        """(segments,) log-probability of each segment's trained tokens together."""
        return self.values.new_zeros(self.segments).index_add(0, self.owners, self.values)

    def length(self) -> Tensor:
        """(segments,) number of trained tokens, as floats."""
        return self.values.new_zeros(self.segments).index_add(0, self.owners, torch.ones_like(self.values))

    def mean(self) -> Tensor:
        """(segments,) average log-probability per trained token; 0 where a segment has none."""
        return self.sum() / self.length().clamp(min=1)

    def pairs(self, per_segment: Tensor) -> tuple[Tensor, Tensor]:
        """Pick (chosen, rejected), each (pairs,), from a value per segment."""
        return per_segment[self.chosen], per_segment[self.rejected]

    def detach(self) -> "Logps":
        """Cut the values from the graph."""
        return Logps(self.values.detach(), self.owners, self.segments, self.chosen, self.rejected)


def preference_metrics(policy: Logps, rewards_chosen: Tensor, rewards_rejected: Tensor) -> dict[str, Tensor]:
    """Return what every preference method reports, each (pairs,), under the names TRL uses."""
    logps_chosen, logps_rejected = policy.pairs(policy.sum())
    metrics = {
        "rewards/chosen": rewards_chosen,
        "rewards/rejected": rewards_rejected,
        "rewards/margins": rewards_chosen - rewards_rejected,
        "rewards/accuracies": (rewards_chosen > rewards_rejected).to(rewards_chosen.dtype),
        "logps/chosen": logps_chosen,
        "logps/rejected": logps_rejected,
    }
    return {name: values.detach() for name, values in metrics.items()}
