"""Logps: the log-probabilities of a Batch's trained tokens under one model, and the sums objectives are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


def _no_index() -> Tensor:
    return torch.zeros(0, dtype=torch.int64)


def _no_mark() -> Tensor:
    return torch.zeros(0, dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class Logps:
    """Per-token log-probabilities in nats, and which segment each token belongs to."""

    values: Tensor
    """(trained,) log-probability of each trained token given what precedes it."""
    owners: Tensor
    """(trained,) int64 segment of each token, in ascending order."""
    segments: int
    """Segments in the batch, with or without trained tokens."""
    chosen: Tensor
    """(pairs,) int64 segment of each preferred answer."""
    rejected: Tensor
    """(pairs,) int64 segment of each dispreferred answer."""
    labeled: Tensor = field(default_factory=_no_index)
    """(answers,) int64 segment of each unpaired answer."""
    desirable: Tensor = field(default_factory=_no_mark)
    """(answers,) bool, whether it is wanted."""
    mismatched: Tensor = field(default_factory=_no_index)
    """(mismatched,) int64 segments of other rows' answers."""
    collision: Tensor | None = None
    """(trained,) log sum_v p_v^2 of each predicted distribution, without gradient; where an objective asks for it."""
    router: Tensor | None = None
    """(rows,) router loss of each row times its coefficient, of a mixture of experts that is trained with one."""

    def sum(self, weights: Tensor | None = None) -> Tensor:
        """(segments,) log-probability of each segment's trained tokens together, weighted per token where given."""
        values = self.values if weights is None else self.values * weights
        return self.values.new_zeros(self.segments).index_add(0, self.owners, values)

    def length(self) -> Tensor:
        """(segments,) number of trained tokens, as floats."""
        return self.values.new_zeros(self.segments).index_add(0, self.owners, torch.ones_like(self.values))

    def mean(self) -> Tensor:
        """(segments,) average log-probability per trained token; 0 where a segment has none."""
        return self.sum() / self.length().clamp(min=1)

    def pairs(self, per_segment: Tensor) -> tuple[Tensor, Tensor]:
        """Pick (chosen, rejected), each (pairs,), from a value per segment."""
        return per_segment[self.chosen], per_segment[self.rejected]

    def to(self, device: torch.device | str) -> "Logps":
        """Move the tensors to a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    def detach(self) -> "Logps":
        """Cut everything from the graph."""
        router = None if self.router is None else self.router.detach()
        return replace(self, values=self.values.detach(), router=router)


def side_by_side(parts: Sequence[Logps]) -> Logps:
    """Join the Logps of several batches; the segments of a later one are counted on from those before it."""
    offsets = [sum(part.segments for part in parts[:index]) for index in range(len(parts))]
    shifted = {
        name: torch.cat([getattr(part, name) + offset for part, offset in zip(parts, offsets, strict=True)])
        for name in ("owners", "chosen", "rejected", "labeled", "mismatched")
    }
    collision = [part.collision for part in parts if part.collision is not None]
    return Logps(
        values=torch.cat([part.values for part in parts]),
        segments=sum(part.segments for part in parts),
        desirable=torch.cat([part.desirable for part in parts]),
        collision=torch.cat(collision) if collision else None,
        **shifted,
    )


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
