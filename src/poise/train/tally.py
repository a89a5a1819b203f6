"""What a log line adds to transformers': sums over the steps since the last one, of all processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from poise.train.means import Means


@dataclass
class Tally:
    """Sums over the steps since the last log line."""

    metrics: Means = field(default_factory=Means)
    tokens: int = 0
    seconds: float = 0.0
    router_loss: float = 0.0
    rows: int = 0
    """Rows with a router loss."""

    @classmethod
    def joined(cls, parts: Sequence["Tally"]) -> "Tally":
        """Add up what each process did; tokens and seconds are already those of the whole step."""
        return cls(
            metrics=Means.joined(part.metrics for part in parts),
            tokens=parts[0].tokens,
            seconds=parts[0].seconds,
            router_loss=sum(part.router_loss for part in parts),
            rows=sum(part.rows for part in parts),
        )

    def state(self) -> dict[str, Any]:
        """Return it as plain data, for a checkpoint."""
        return {**vars(self), "metrics": self.metrics.state()}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> "Tally":
        """Make one from what `state` returned."""
        tally = cls(**{name: value for name, value in state.items() if name != "metrics"})
        tally.metrics = Means.of_state(state["metrics"])
        return tally
