"""Exact duplicates: the first of several Examples with equal content is kept."""

from poise.curate.reason import Reason
from poise.examples import Example


class Copies:
    """Remembers what was seen."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def judge(self, example: Example) -> Reason | None:
        """Return why an Example is dropped, or None."""
        if example.id in self._first:
            return Reason("copy", f"same as {self._first[example.id]}")
        self._first[example.id] = example.place or "an earlier row"
        return None
