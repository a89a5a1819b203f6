"""How well an arm did: what it kept, which planted copies it found, and whether the pairs it joined are copies.

    found       share of the planted rows of a kind that are in one cluster with their original
    precision   of the pairs within clusters, the share that are two rows of one original; a distractor has none
    recall      of all pairs of rows of one original, the share within clusters
    left        share of the planted copies that were kept beside another row of their original
    lost        share of the originals of which no row was kept

A cluster is what an arm's pairs connect. An arm that keeps one row of each cluster leaves the copies it did not find.
poise drops a row only if one that it keeps is like it, so of a chain it keeps both ends: they are `left`, but `found`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

COPIES = ("exact", "variant", "near")


@dataclass(frozen=True)
class Planted:
    """What the rows are."""

    kinds: Sequence[str]
    """`original`, `distractor`, `exact`, `variant` or `near`."""
    originals: Sequence[int]
    """The row each was made from; an original's own."""

    @property
    def families(self) -> list[int]:
        """The original that a row is a copy of; a distractor is no copy."""
        each = enumerate(zip(self.kinds, self.originals, strict=True))
        return [row if kind == "distractor" else original for row, (kind, original) in each]


@dataclass(frozen=True)
class Found:
    """What an arm decided."""

    labels: Sequence[int] | None
    """The cluster of every row; None where it was not asked."""
    dropped: frozenset[int]
    """Rows."""


def one_of_each(labels: Sequence[int]) -> Found:
    """Keep the first row of every cluster."""
    first = {label: row for row, label in reversed(list(enumerate(labels)))}
    return Found(labels, frozenset(range(len(labels))) - frozenset(first.values()))


def scored(found: Found, planted: Planted) -> dict[str, Any]:
    """Return the measures that stand at the top of this file; None where they cannot be told."""
    families = planted.families
    kept = Counter(family for row, family in enumerate(families) if row not in found.dropped)
    copies = sum(kind in COPIES for kind in planted.kinds)
    return {
        "kept": kept.total(),
        "left": _share(sum(count - 1 for count in kept.values()), copies),
        "lost": _share(len(set(families) - set(kept)), len(set(families))),
        **_clustered(found.labels, families, planted),
    }


def _clustered(labels: Sequence[int] | None, families: Sequence[int], planted: Planted) -> dict[str, Any]:
    kinds = [*COPIES, "distractor"]
    if labels is None:
        return {"precision": None, "recall": None, "found": dict.fromkeys(kinds)}
    joined, right = _pairs(labels), _pairs(zip(labels, families, strict=True))
    return {
        "precision": _share(right, joined),
        "recall": _share(right, _pairs(families)),
        "found": {kind: _found(kind, labels, planted) for kind in kinds},
    }


def _found(kind: str, labels: Sequence[int], planted: Planted) -> float | None:
    rows = [row for row, each in enumerate(planted.kinds) if each == kind]
    return _share(sum(labels[row] == labels[planted.originals[row]] for row in rows), len(rows))


def _pairs(groups: Iterable[Any]) -> int:
    """Count the pairs within groups."""
    return sum(size * (size - 1) // 2 for size in Counter(groups).values())


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
