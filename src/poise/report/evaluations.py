"""Evaluations in the report: the tables that `poise evaluate` wrote, and what differs between two of one kind."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.errors import RunError
from poise.evaluate.compare import CLEAR_P, compare
from poise.evaluate.result import decimals
from poise.report.wording import is_number
from poise.run import EVALUATION

FLIPS_SHOWN = 8


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

    kind: str
    model: str
    judge: str
    tables: list[tuple[str, str, list[Number]]]
    """Title, unit, numbers."""
    notes: list[str]


@dataclass(frozen=True)
class Difference:
    """One task under two models, item by item."""

    task: str
    n: int
    before: str
    after: str
    change: float
    interval: str
    p: str
    """Holm's over the tasks of the comparison."""
    is_clear: bool
    smallest: str
    """The true difference that such a sample would have shown four times in five."""
    flips: list[tuple[str, int, list[str]]]
    """`worse` and `better`: how many items, and the most changed ones by name."""


@dataclass(frozen=True)
class Compared:
    """Two evaluations of one kind."""

    title: str
    differences: list[Difference]
    refusal: str = ""
    """Why they cannot be compared."""


def compare_evaluations(folders: Sequence[Path], evaluations: Sequence[Evaluation]) -> list[Compared]:
    """Compare the first evaluation of each kind with every later one, `evaluations` being what the folders hold."""
    first: dict[str, tuple[Path, Evaluation]] = {}
    found: list[Compared] = []
    for folder, evaluation in zip(folders, evaluations, strict=True):
        if evaluation.kind not in first:
            first[evaluation.kind] = (folder, evaluation)
            continue
        base, before = first[evaluation.kind]
        title = f"{evaluation.kind} · {before.model} → {evaluation.model}"
        try:
            found.append(Compared(title, [_difference(task) for task in compare(base, folder)["tasks"]]))
        except RunError as error:
            found.append(Compared(title, [], str(error).splitlines()[0]))
    return found


def _difference(task: dict[str, Any]) -> Difference:
    found = task["difference"]
    return Difference(
        task=task["task"],
        n=task["n"],
        before=f"{task['before']:.4g}",
        after=f"{task['after']:.4g}",
        change=found["value"],
        interval=f"{found['low']:+.3g} to {found['high']:+.3g}",
        p=f"{task['adjusted_p']:.2g}",
        is_clear=task["adjusted_p"] < CLEAR_P,
        smallest=f"{task['smallest_detectable']:.2g}",
        flips=[(name, task[name], task["flips"][name][:FLIPS_SHOWN]) for name in ("worse", "better") if task[name]],
    )


def read_evaluations(folders: Sequence[Path]) -> list[Evaluation]:
    """Read what `poise evaluate` wrote in each folder; RunError where it wrote nothing that can be read."""
    return [_read(folder) for folder in folders]


def _read(folder: Path) -> Evaluation:
    file = folder / EVALUATION
    if not file.is_file():
        raise RunError(f"{folder} holds no {EVALUATION}\n    to do:  name a folder that `poise evaluate` wrote")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        judge = found.get("judge")
        return Evaluation(
            kind=str(found["kind"]),
            model=str(found["model"]),
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
    is_bounded = all(map(is_number, bounds))
    digits = decimals(estimate) if is_bounded else 2
    unscored = ""
    if line.get("unscored"):
        low, high = line["worst"]
        unscored = f"{line['unscored']} without a score: at least {low:.{digits}f}, at most {high:.{digits}f}"
    return Number(
        name=str(line["name"]),
        value=f"{estimate['value']:.{digits}f}",
        interval=f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}" if is_bounded else "–",
        n=int(estimate["n"]),
        unscored=unscored,
    )
