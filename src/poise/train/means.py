"""Means of an objective's metrics, over as many micro-batches as lie between two log lines."""

from collections import defaultdict
from collections.abc import Iterable

from torch import Tensor


class Means:
    """Sums and counts: a metric (items,) counts every item, one of (items, 2) those that its second column marks."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, float] = defaultdict(float)

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Count the metrics of some items."""
        for name, values in metrics.items():
            marked = values.dim() == 2
            self._sums[name] += float(values[:, 0].sum() if marked else values.sum())
            self._counts[name] += float(values[:, 1].sum()) if marked else len(values)

    @classmethod
    def joined(cls, parts: Iterable["Means"]) -> "Means":
        """Add up what several processes have counted."""
        whole = cls()
        for part in parts:
            for name, total in part._sums.items():
                whole._sums[name] += total
                whole._counts[name] += part._counts[name]
        return whole

    def read(self) -> dict[str, float]:
        """Return the mean of every metric that any item has.

        Where chosen and rejected answers are not of one pair, the margin is that of their two means, as TRL has it.
        """
        means = {name: total / self._counts[name] for name, total in self._sums.items() if self._counts[name]}
        if "rewards/margins" not in means and {"rewards/chosen", "rewards/rejected"} <= means.keys():
            means["rewards/margins"] = means["rewards/chosen"] - means["rewards/rejected"]
        return means

    def state(self) -> dict[str, dict[str, float]]:
        """Return sums and counts as plain data, for a checkpoint."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    @classmethod
    def of_state(cls, state: dict[str, dict[str, float]]) -> "Means":
        """Make one from what `state` returned."""
        means = cls()
        means._sums.update(state["sums"])
        means._counts.update(state["counts"])
        return means
