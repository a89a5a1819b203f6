"""What can go wrong, each with the exit code that tells a script what to do next.

A message says what happened, where, why it matters and the one thing to do. Bad input never shows a traceback.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class PoiseError(Exception):
    """Base of every error a user can cause or must act upon."""

    exit_code = 1
    code = ""
    """What `poise explain` can say more about."""

    def __init__(self, message: str = "", *, code: str = "") -> None:
        super().__init__(message)
        self.code = code or self.code


class RecipeError(PoiseError):
    """The recipe or the command line is wrong; nothing was started."""

    exit_code = 2
    code = "E001"


class DataError(PoiseError):
    """A data file or row is wrong; nothing was trained."""

    exit_code = 2
    code = "E002"


class ModelError(PoiseError):
    """The model or tokenizer cannot do what the recipe asks."""

    exit_code = 2
    code = "E003"


class DivergenceError(PoiseError):
    """The numbers went bad (NaN, infinity, a broken invariant); stopped before the update."""

    exit_code = 3


class ResourceError(PoiseError):
    """Memory, disk or another process is in the way."""

    exit_code = 4


class RunError(PoiseError):
    """The run folder does not allow what was asked."""

    exit_code = 2
    code = "E004"


class InterruptedRun(PoiseError):  # noqa: N818 - not an error: the run was saved and can go on
    """Stopped by the user or the scheduler after saving; `--resume` continues."""

    exit_code = 75


class StoppedElsewhere(PoiseError):  # noqa: N818 - not an error of this process
    """Another of the processes that train together failed and tells why; this one ends with the same exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one place of the input: `place` is `file:row column` or `file:line:column`."""

    place: str
    what: str
    why: str
    remedy: str

    def __str__(self) -> str:
        """Render the four parts on at most three lines."""
        return f"{self.place}: {self.what}\n    why:    {self.why}\n    to do:  {self.remedy}"


def list_problems(problems: Sequence[Problem], at_most: int = 20) -> str:
    """Join problems into one message, the first `at_most` in full."""
    shown = "\n".join(str(problem) for problem in problems[:at_most])
    hidden = len(problems) - at_most
    return shown if hidden <= 0 else f"{shown}\n… and {hidden} more of the same kind"
