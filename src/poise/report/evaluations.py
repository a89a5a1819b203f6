"""Evaluations in the report: the tables that `poise evaluate` wrote, each number with its interval."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.errors import RunError
from poise.report.wording import is_number

RESULT = "evaluation.json"


@dataclass(frozen=True)
class Number:
    """One number as the page writes it."""

    name: str
    value: str
    interval: str
    n: int
    unscored: str
    """How many items have no score, and what the number could be had they one; empty where all have."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one model."""

    title: str
    judge: str
    tables: list[tuple[str, str, list[Number]]]
    """Title, unit, numbers."""
    notes: list[str]


def read_evaluations(folders: Sequence[Path]) -> list[Evaluation]:
    """Read what `poise evaluate` wrote in each folder; RunError where it wrote nothing that can be read."""
    return [_read(folder) for folder in folders]


def _read(folder: Path) -> Evaluation:
    file = folder / RESULT
    if not file.is_file():
        raise RunError(f"{folder} holds no {RESULT}\n    to do:  name a folder that `poise evaluate` wrote")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        judge = found.get("judge")
        return Evaluation(
            title=f"{found['kind']} · {found['model']}",
            judge=f"{judge['model']} at {judge['host']}" if judge else "",
            tables=[
                (str(table["title"]), str(table["unit"]), [_number(line) for line in table["lines"]])
                for table in found["tables"]
            ],
            notes=[str(note) for note in found.get("notes") or []],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} cannot be read ({error!r})\n    to do:  evaluate again") from None


def _number(line: dict[str, Any]) -> Number:
    estimate = line["estimate"]
    bounds = [estimate["low"], estimate["high"]]
    unscored = ""
    if line.get("unscored"):
        low, high = line["worst"]
        unscored = f"{line['unscored']} without a score: at least {low:.2f}, at most {high:.2f}"
    return Number(
        name=str(line["name"]),
        value=f"{estimate['value']:.2f}",
        interval=f"{bounds[0]:.2f} to {bounds[1]:.2f}" if all(map(is_number, bounds)) else "–",
        n=int(estimate["n"]),
        unscored=unscored,
    )
