"""A few rows of each source, chosen by hash, so that they are the same at every look and in any order of rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from poise.look.shown import shown
from poise.look.table import Batch

EXAMPLES = 3
"""Of each source."""


@dataclass
class Chosen:
    """The rows of the smallest hashes so far."""

    found: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict[str, dict[int, dict[str, Any]]])
    """By source and hash."""

    def add(self, batch: Batch) -> None:
        """Choose from a batch; a row that is written twice is chosen once."""
        for source, own in batch.sources():
            kept = self.found.setdefault(source, {})
            smallest, first = np.unique(batch.hashes[own], return_index=True)
            for number, index in zip(smallest[:EXAMPLES].tolist(), own[first[:EXAMPLES]].tolist(), strict=True):
                if len(kept) < EXAMPLES or number < max(kept):
                    kept[number] = _example(batch, index)
                if len(kept) > EXAMPLES:
                    del kept[max(kept)]

    def facts(self, sources: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of each source, sources in the order given."""
        return {source: [each for _, each in sorted(self.found[source].items())] for source in sources}


def _example(batch: Batch, index: int) -> dict[str, Any]:
    (row,) = batch.columns.slice(index, 1).to_pylist()
    return {"id": row["id"], "kind": batch.kind, "split": batch.split, "turns": shown(batch.kind, row)}
