"""The three ways a reader says no: to a file, to a row, and to a sound row that can teach nothing."""

from poise.errors import Problem


class FileError(Exception):
    """A file of which no row, or no further row, can be trusted."""

    def __init__(self, place: object, what: str, why: str, remedy: str) -> None:
        super().__init__(what)
        self.problem = Problem(str(place), what, why, remedy)


class RowError(Exception):
    """A row that breaks its format; `where` follows `file:row` and is ` column` or `:character`."""

    def __init__(self, reason: str, where: str, what: str, why: str, remedy: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.where = where
        self.what = what
        self.why = why
        self.remedy = remedy

    def problem(self, place: str) -> Problem:
        """Say it of the row at `place`."""
        return Problem(f"{place}{self.where}", self.what, self.why, self.remedy)


class NothingToLearn(Exception):  # noqa: N818 - not an error: the row is sound, dropped and counted
    """A sound row without anything to train on; `evidence` names the column."""

    def __init__(self, reason: str, evidence: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.evidence = evidence
