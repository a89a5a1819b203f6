"""Exact duplicates: the first of several Examples with equal content is kept."""

from poise.curate.reason import Reason
from poise.examples import Example


class Copies:
    """Remembers what was seen."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def judge(self, example: Example) -> Reason | None:
        """Return why an Example is dropped, or None."""
        place = example.lineage[0] if example.lineage else ""
        first = self._first.setdefault(example.id, place)
        return None if first == place else Reason("copy", f"same as {first}")
