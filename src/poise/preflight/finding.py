"""A Finding: one code, what was seen in this run, and the rows it was seen in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from poise.codes import CODES
from poise.errors import RecipeError

ROWS_TOLD, ROWS_KEPT = 5, 50


class Placed(Protocol):
    """Whatever has an id and a place: an Example, a Row, a Drop."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def place(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    code: str
    what: str
    remedy: str = ""
    """What to do in this run; the code's own remedy where it is empty."""
    rows: tuple[str, ...] = ()
    """Where it was seen, `id (file:row)`."""

    @property
    def severity(self) -> Literal["error", "warning", "note"]:
        """What the code's letter says."""
        return CODES[self.code].severity

    def to_do(self) -> str:
        """Return the remedy."""
        return self.remedy or CODES[self.code].remedy

    def __str__(self) -> str:
        """Say it in plain words, on two to four lines."""
        more = f", and {len(self.rows) - ROWS_TOLD:,} more" if len(self.rows) > ROWS_TOLD else ""
        rows = [f"    rows:   {', '.join(self.rows[:ROWS_TOLD])}{more}"] if self.rows else []
        lines = [f"{self.severity} {self.code}: {self.what}", *rows]
        if self.severity != "note":
            why = [] if "\n    why:" in self.what else [f"    why:    {CODES[self.code].why}"]
            lines += [*why, f"    to do:  {self.to_do()}"]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, with the first rows and their number."""
        return {
            "code": self.code,
            "severity": self.severity,
            "what": self.what,
            "to_do": self.to_do(),
            "rows": list(self.rows[:ROWS_KEPT]),
            "row_count": len(self.rows),
        }


class PreflightError(RecipeError):
    """Findings that stop a run before it begins, all of them at once."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        told = "\n".join(str(each).removeprefix("error ") for each in findings)
        codes = " or ".join(f"poise explain {code}" for code in dict.fromkeys(each.code for each in findings))
        ignorable = [each.code for each in findings if not CODES[each.code].is_final]
        hint = f"; where it is meant, --ignore {','.join(dict.fromkeys(ignorable))}" if ignorable else ""
        super().__init__(f"{told}\n    more:   {codes}{hint}")


def places(rows: Iterable[Placed]) -> tuple[str, ...]:
    """Name rows by id and place; a drop that never had an id is named by its place."""
    return tuple(f"{row.id} ({row.place})" if row.id and row.place else row.id or row.place for row in rows)


def share(part: int, whole: int) -> str:
    """Write a share of rows: `12 of 400 rows (3 %)`."""
    percent = 100 * part / max(1, whole)
    shown = f"{percent:.0f}" if percent >= 1 or not part else f"{percent:.1g}"
    return f"{part:,} of {whole:,} rows ({shown} %)"


def degree(found: float, number: int, *, warns: float, stops: float | None = None) -> str:
    """Return the code of a share that is above 0: N, W from `warns`, E from `stops`."""
    letter = "E" if stops is not None and found >= stops else "W" if found >= warns else "N"
    return f"{letter}{number}"
