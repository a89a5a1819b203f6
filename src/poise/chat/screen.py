"""What a chat looks like: text as it comes, or two columns that fill one after the other."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from poise.chat.talk import SIDES


def show(names: Sequence[str]) -> "AbstractContextManager[Screen]":
    """Choose how answers of these models are shown."""
    console = Console(file=sys.stdout, highlight=False)
    if len(names) > 1 and console.is_terminal:
        return _Columns(console, names)
    return _Lines(console, names)


class Screen:
    """Is told each model's answer so far."""

    def tell(self, index: int, text: str) -> None:
        """Show the answer of model `index` as it is now."""
        raise NotImplementedError


class _Lines(Screen, AbstractContextManager["Screen"]):
    """One answer after the other, each printed as it comes."""

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self._console, self._names, self._shown = console, names, [""] * len(names)
        self._at: int | None = None

    def tell(self, index: int, text: str) -> None:
        if index != self._at:
            self._begin(index)
        if text.startswith(self._shown[index]):
            self._write(text[len(self._shown[index]) :])
            self._shown[index] = text

    def _begin(self, index: int) -> None:
        if self._at is not None:
            self._write("\n")
        self._at = index
        side = f"{SIDES[index]}, " if len(self._names) > 1 else ""
        self._console.print(f"{side}{self._names[index]}> ", style="bold cyan", end="", markup=False)

    def _write(self, text: str) -> None:
        self._console.out(text, end="")
        sys.stdout.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._at is not None:
            self._write("\n")


class _Columns(Screen, AbstractContextManager["Screen"]):
    """Two answers beside each other."""

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self._names, self._texts = names, [""] * len(names)
        self._live = Live(console=console, refresh_per_second=12, vertical_overflow="visible")

    def __enter__(self) -> "_Columns":
        self._live.__enter__()
        return self

    def tell(self, index: int, text: str) -> None:
        self._texts[index] = text
        self._live.update(self._table())

    def _table(self) -> Table:
        table = Table(expand=True, show_lines=False)
        for side, name in zip(SIDES, self._names, strict=False):
            table.add_column(Text(f"{side}, {name}"), ratio=1)
        table.add_row(*map(Text, self._texts))
        return table

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)
