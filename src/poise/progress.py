"""Tell the person waiting what is happening: a live bar on a terminal, whole `key=value` lines everywhere else.

Everything goes to stderr; stdout is for results.
"""

import logging
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from poise.secrets import hidden

SECONDS_BETWEEN_LINES = 30.0
_silent: ContextVar[bool] = ContextVar("silent", default=False)


class Stage:
    """One stretch of work of known length."""

    def __init__(self, name: str, total: int, console: Console, live: Progress | None, quiet_s: float = 0.0) -> None:
        self.name, self.total, self.done = name, total, 0
        self._quiet_s = quiet_s
        self._console, self._live = console, live
        self._task = live.add_task(name, total=total, facts="") if live else None
        self._started = self._last_line = time.monotonic()

    def advance(self, done: int, **facts: object) -> None:
        """Say that `done` of `total` is reached, with facts such as loss=0.69."""
        self.done = done
        told = "  ".join(f"{key} {_short(value)}" for key, value in facts.items())
        if self._live and self._task is not None:
            self._live.update(self._task, completed=done, facts=told)
        elif self._is_worth_a_line():
            self._line(facts)

    def _is_worth_a_line(self) -> bool:
        first_digit_only = str(self.done).rstrip("0") in ("1", "2", "5")
        now = time.monotonic()
        if now - self._started < self._quiet_s:
            return False
        due = now - self._last_line > SECONDS_BETWEEN_LINES
        return self.done == self.total or due or first_digit_only

    def _line(self, facts: dict[str, object]) -> None:
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._started
        left = elapsed / self.done * (self.total - self.done) if self.done else 0.0
        pairs = {"stage": _short(self.name), "done": f"{self.done}/{self.total}"}
        pairs |= {key.replace(" ", "_"): _short(value) for key, value in facts.items()}
        pairs |= {"elapsed_s": f"{elapsed:.0f}", "left_s": f"{left:.0f}"}
        say(" ".join(f"{key}={value}" for key, value in pairs.items()))


@contextmanager
def stage(name: str, total: int, quiet_s: float = 0.0) -> Generator[Stage]:
    """Show a stage of work until the block ends; where lines are written, none before `quiet_s`."""
    console = _console()
    if _silent.get():
        quiet_s = float("inf")
    if _silent.get() or not is_interactive():
        yield Stage(name, total, console, None, quiet_s)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.description:<12}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as live:
        yield Stage(name, total, console, live)


@contextmanager
def silent() -> Generator[None]:
    """Show no stage inside the block, in this thread; for work that goes on behind a page."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def say(text: str) -> None:
    """Print a line for the person waiting, without secrets; of processes that work together, the main one does."""
    if is_main_process():
        _console().print(hidden(text), markup=False, highlight=False, soft_wrap=True)


def hush() -> None:
    """Keep libraries from telling what no user can act on: kernels for other devices, a deprecation of torchao's."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def is_main_process() -> bool:
    """Whether a launcher such as torchrun started this as its first process, or none started it."""
    return os.environ.get("RANK", "0") == "0"


def is_interactive() -> bool:
    """Whether stderr is a terminal a person watches."""
    return is_main_process() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


def _console() -> Console:
    return Console(file=sys.stderr, force_terminal=is_interactive(), no_color=bool(os.environ.get("NO_COLOR")))


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}".replace(",", "")
    return str(value).replace(" ", "_")
