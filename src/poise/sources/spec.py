"""What a recipe says of one source, and the slice of it that a split like `train[:10%]` asks for."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from poise.errors import DataError

Item = TypeVar("Item")

SPLIT = re.compile(r"(?P<name>[\w.-]+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


@dataclass(frozen=True)
class SourceSpec:
    """One source: where it is and which part of it is wanted."""

    name: str
    """A file, a folder or a Hub id; a path that exists wins."""
    config: str | None = None
    """The Hub dataset's configuration."""
    split: str | None = "train"
    """A split, or a slice of one as `datasets` writes it: `train[:100]`, `test[10%:20%]`. None takes every split."""
    revision: str | None = None
    """The Hub dataset's branch, tag or commit."""
    columns: tuple[str, ...] | None = None
    """Look at these columns only."""
    text_column: str = "text"
    """The column of plain documents. Any other name than `text` is taken as a wish and wins over other shapes."""


@dataclass(frozen=True)
class Slice:
    """`[start:stop]` of a split; each end is rows, or percent of all rows."""

    start: str | None = None
    stop: str | None = None

    def cut(self, items: Iterable[Item]) -> Iterable[Item]:
        """Keep the slice; reads no further than needed where the ends are plain numbers."""
        if _is_plain(self.start) and _is_plain(self.stop):
            return islice(items, int(self.start or 0), None if self.stop is None else int(self.stop))
        listed = list(items)
        return listed[_row(self.start, len(listed)) : _row(self.stop, len(listed))]


def parse_split(text: str) -> tuple[str, Slice]:
    """Split `train[:100]` into its name and its slice."""
    match = SPLIT.fullmatch(text.strip())
    if match is None:
        raise DataError(f"split {text!r} cannot be understood; write a name, or a slice like train[:100] or test[:10%]")
    return match["name"], Slice(match["start"], match["stop"])


def _is_plain(end: str | None) -> bool:
    return end is None or end.isdecimal()


def _row(end: str | None, rows: int) -> int | None:
    if end is None:
        return None
    return round(int(end[:-1]) * rows / 100) if end.endswith("%") else int(end)
