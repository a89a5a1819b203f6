"""Leaks: what was found of each benchmark in the rows, with samples side by side."""

from bisect import insort
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from poise.curate.matcher import Match, State

SAMPLES = 5


class Leaks:
    """What was found of each benchmark; the same for any order of the rows.

    rows: those that leak it; one that leaks two benchmarks counts for both. items: which are leaked, with the number
    of rows. samples: the row's words beside the item's text.
    """

    def __init__(self, states: Mapping[str, Mapping[str, State]]) -> None:
        self.states = states
        self.rows: Counter[str] = Counter()
        self.items: dict[str, Counter[str]] = {benchmark: Counter() for benchmark in states}
        self.samples: dict[str, list[tuple[str, str, str, str]]] = {benchmark: [] for benchmark in states}
        """(row, item, row's words, item's text), of the first few rows by id."""

    def add(self, row: str, matches: Sequence[Match]) -> None:
        """Count the matches of a row, named by its id."""
        self.rows.update({match.benchmark for match in matches})
        for match in matches:
            self.items[match.benchmark][match.item] += 1
            insort(self.samples[match.benchmark], (row, match.item, match.seen, match.text))
            del self.samples[match.benchmark][SAMPLES:]

    def facts(self) -> dict[str, Any]:
        """Return it as JSON: by benchmark, also how many items could not be looked for, and which."""
        return {benchmark: self._facts(benchmark) for benchmark in self.states}

    def _facts(self, benchmark: str) -> dict[str, Any]:
        states = self.states[benchmark]
        names = ("row", "item", "seen", "text")
        return {
            "items": len(states),
            "looked for": dict(sorted(Counter(states.values()).items())),
            "too short": sorted(item for item, state in states.items() if state == "too short"),
            "rows": self.rows[benchmark],
            "leaked": dict(sorted(self.items[benchmark].items())),
            "samples": [dict(zip(names, sample, strict=True)) for sample in self.samples[benchmark]],
        }
