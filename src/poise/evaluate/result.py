"""A result: tables with intervals, and one line per item, as a folder that reports and comparisons read.

evaluation.json   what was evaluated, by whom, tables, notes
items.jsonl       one line per item: task, id, cluster, hash of what was asked, score (None where there is none)
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from poise import __version__
from poise.errors import RunError
from poise.evaluate.statistics import Estimate
from poise.run import EVALUATION, now, read_lines, write_whole

ITEMS = "items.jsonl"


@dataclass(frozen=True)
class Item:
    """One question under one model."""

    task: str
    id: str
    cluster: str
    """Items that are not independent of each other share it."""
    asked: str
    """A hash of all that two models must share to be compared on this item."""
    score: float | None


@dataclass(frozen=True)
class Line:
    """One number of a table, with its 95 % interval."""

    name: str
    estimate: Estimate
    unscored: int = 0
    """Items without a score."""
    worst: tuple[float, float] | None = None
    """The least and the most it could be, had every unscored item been the lowest or the highest."""


@dataclass(frozen=True)
class Table:
    """Numbers of one kind."""

    title: str
    unit: str
    lines: list[Line] = field(default_factory=list[Line])


@dataclass(frozen=True)
class Result:
    """What one evaluation of one model found."""

    kind: str
    model: str
    tables: list[Table]
    items: list[Item]
    judge: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list[str])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    figures: dict[str, Any] = field(default_factory=dict[str, Any])
    """Plain numbers beside the tables, as other tools name them."""

    def write(self, folder: Path) -> None:
        """Write both files."""
        write_whole(folder / ITEMS, "".join(json.dumps(asdict(item)) + "\n" for item in self.items))
        head = {key: value for key, value in asdict(self).items() if key != "items"}
        whole = {"poise": __version__, "created": now(), **head}
        write_whole(folder / EVALUATION, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")

    def as_json(self, folder: Path) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {key: value for key, value in asdict(self).items() if key != "items"} | {"folder": str(folder)}


def read_items(folder: Path) -> list[Item]:
    """Read the items of a result."""
    if not (folder / ITEMS).is_file():
        raise RunError(f"{folder} holds no {ITEMS}\n    to do:  name a folder that `poise evaluate` wrote")
    try:
        return [Item(**row) for row in read_lines(folder / ITEMS)]
    except (TypeError, ValueError) as error:
        raise RunError(f"{folder / ITEMS} cannot be read ({error})\n    to do:  evaluate again") from None


def told(result: dict[str, Any]) -> str:
    """Write the tables of a result for a person."""
    lines = [f"{result['kind']} of {result['model']}" + (f", judged by {judge(result)}" if result["judge"] else "")]
    for table in result["tables"]:
        lines.append(f"\n{table['title']} ({table['unit']}, 95 % interval)")
        width = max(len(line["name"]) for line in table["lines"])
        lines += [f"  {line['name']:<{width}}  {_number(line)}" for line in table["lines"]]
    lines += [f"\nnote: {note}" for note in result["notes"]]
    return "\n".join([*lines, f"\nfolder: {result['folder']}"])


def judge(result: dict[str, Any]) -> str:
    """Name the judge of a result."""
    return f"{result['judge']['model']} at {result['judge']['host']}"


def by_task(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Group items, in their order."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.task, []).append(item)
    return groups


def _number(line: dict[str, Any]) -> str:
    estimate = line["estimate"]
    digits = decimals(estimate)
    value, low, high = (f"{estimate[name]:.{digits}f}" for name in ("value", "low", "high"))
    text = f"{value} [{low}, {high}]  n={estimate['n']}"
    if line["unscored"]:
        low, high = line["worst"]
        text += f"  {line['unscored']} without a score: at least {low:.{digits}f}, at most {high:.{digits}f}"
    return text


def decimals(estimate: dict[str, Any]) -> int:
    """Return how many decimals show two digits of how far a number could be off; two at least."""
    reach = (estimate["high"] - estimate["low"]) / 2
    return max(2, 1 - math.floor(math.log10(reach))) if reach > 0 else 2
