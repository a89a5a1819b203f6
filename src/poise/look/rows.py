"""How many rows there are, by source, kind and split, and how many of them have a system prompt.

{"rows": 3, "by_kind": {"conversation": {"train": 2, "test": 1}}, "system": {"with": 1, "of": 3}, …}
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from poise.look.table import Batch


@dataclass
class Rows:
    """The rows counted so far."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    """By source, kind and split."""
    with_system: Counter[str] = field(default_factory=Counter[str])
    """Rows with a system prompt, by source."""

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        has_system = np.isin(np.arange(len(batch)), batch.turns.row[batch.turns.is_system])
        for source, own in batch.sources():
            self.counts[source, batch.kind, batch.split] += len(own)
            self.with_system[source] += int(has_system[own].sum())

    def facts(self) -> dict[str, Any]:
        """Return the counts; of a row that is written twice both."""
        return {
            "rows": self.counts.total(),
            "by_kind": _nested((kind, split, rows) for (_, kind, split), rows in self.counts.items()),
            "by_source": {source: self._source(source) for source in self.sources()},
            "system": self._system(list(self.with_system)),
        }

    def sources(self) -> list[str]:
        """List the sources, the largest first."""
        sizes: Counter[str] = Counter()
        for (source, _, _), rows in self.counts.items():
            sizes[source] += rows
        return sorted(sizes, key=lambda source: (-sizes[source], source))

    def _source(self, name: str) -> dict[str, Any]:
        own = [(kind, split, rows) for (source, kind, split), rows in self.counts.items() if source == name]
        return {"rows": sum(rows for _, _, rows in own), "kinds": _nested(own), "system": self._system([name])}

    def _system(self, sources: Sequence[str]) -> dict[str, int]:
        """Count rows with a system prompt, of those that have turns."""
        chats = sum(rows for (name, kind, _), rows in self.counts.items() if name in sources and kind != "document")
        return {"with": sum(self.with_system[name] for name in sources), "of": chats}


def _nested(counts: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    """Add up counts by two names, each in order of the alphabet, but `train` before other splits."""
    found: dict[str, Counter[str]] = {}
    for outer, inner, number in counts:
        found.setdefault(outer, Counter())[inner] += number
    return {
        outer: {inner: found[outer][inner] for inner in sorted(found[outer], key=lambda name: (name != "train", name))}
        for outer in sorted(found)
    }
