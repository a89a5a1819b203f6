"""Compare two models over every item both were scored on: paired, exact where scores are right or wrong.

Many tasks are looked at together, so p values are Holm's; beside each difference stands the smallest one that a sample
of this size and spread would have shown, because `not significant` on few items says little.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poise.errors import RunError
from poise.evaluate import statistics
from poise.evaluate.journal import content_key
from poise.evaluate.result import ITEMS, Item, by_task, read_items
from poise.run import SAMPLES, Run

CLEAR_P = 0.05
FLIPS_KEPT = 50
"""Items of a task that are named as worse, and as better; the most changed come first."""


def compare(before: Path, after: Path) -> dict[str, Any]:
    """Return every shared task with both means, their difference and how sure it is.

    Raises:
        RunError: a folder holds no items, nothing is shared, or an item of one name was asked differently.
    """
    was, now = _items(before), _items(after)
    _refuse_other_prompts(was, now, before, after)
    tasks: list[dict[str, Any]] = []
    alone = {"before": 0, "after": 0}
    shared = by_task([item for item in was if _key(item) in {_key(other) for other in now}])
    of_after = {_key(item): item for item in now}
    alone["before"] = len(was) - sum(map(len, shared.values()))
    alone["after"] = len(now) - sum(map(len, shared.values()))
    for task, items in shared.items():
        pairs = [(item, of_after[_key(item)]) for item in items]
        scored = [(one, other) for one, other in pairs if one.score is not None and other.score is not None]
        if scored:
            tasks.append(_compared(task, scored, unscored=len(pairs) - len(scored)))
    if not tasks:
        raise RunError(f"{before} and {after} share no scored item\n    to do:  evaluate both on the same questions")
    for task, adjusted in zip(tasks, statistics.holm([task["p"] for task in tasks]), strict=True):
        task["adjusted_p"] = adjusted
    return {"before": str(before), "after": str(after), "tasks": tasks, "only_in": alone}


def told(compared: dict[str, Any]) -> str:
    """Write a comparison for a person."""
    lines = [f"{compared['before']} → {compared['after']}"]
    for task in compared["tasks"]:
        difference = task["difference"]
        sure = "clear" if task["adjusted_p"] < CLEAR_P else "may be chance"
        lines += [
            f"\n{task['task']}: {task['before']:.4g} → {task['after']:.4g}, {difference['value']:+.4g} "
            f"[{difference['low']:+.4g}, {difference['high']:+.4g}], {task['n']} items",
            f"  {task['worse']} got worse, {task['better']} better; p = {task['p']:.3g} ({task['test']}), "
            f"{task['adjusted_p']:.3g} after Holm over {len(compared['tasks'])}: {sure}",
            f"  a true difference of {task['smallest_detectable']:.3g} would have shown in 4 of 5 such samples",
        ]
        if task["unscored"]:
            lines.append(f"  {task['unscored']} items without a score in one of them are left out")
    if any(compared["only_in"].values()):
        lines.append(f"\nonly in one of them: {compared['only_in']['before']} and {compared['only_in']['after']} items")
    return "\n".join(lines)


def _compared(task: str, scored: Sequence[tuple[Item, Item]], unscored: int) -> dict[str, Any]:
    before, after = [one.score or 0.0 for one, _ in scored], [other.score or 0.0 for _, other in scored]
    clusters = [one.cluster for one, _ in scored]
    independent = len(set(clusters)) == len(clusters)
    is_binary = independent and {*before, *after} <= {0.0, 1.0}
    if is_binary:
        test, p = "exact McNemar", statistics.mcnemar(before, after)
    else:
        test, p = "sign flips", statistics.sign_flip(before, after, clusters)
    found = statistics.difference(before, after, clusters)
    changes = sorted(
        ((now - was, one.id) for (one, _), was, now in zip(scored, before, after, strict=True)),
        key=lambda each: each[0],
    )
    return {
        "task": task,
        "n": len(scored),
        "before": sum(before) / len(before),
        "after": sum(after) / len(after),
        "difference": asdict(found),
        "worse": sum(now < was for was, now in zip(before, after, strict=True)),
        "better": sum(now > was for was, now in zip(before, after, strict=True)),
        "flips": {
            "worse": [name for change, name in changes[:FLIPS_KEPT] if change < 0],
            "better": [name for change, name in changes[: -FLIPS_KEPT - 1 : -1] if change > 0],
        },
        "test": test,
        "p": p,
        "smallest_detectable": statistics.smallest_detectable(found.standard_error),
        "unscored": unscored,
    }


def _items(folder: Path) -> list[Item]:
    """Read a result's items, or the answers of a training run's last model."""
    if (folder / ITEMS).is_file() or not (folder / SAMPLES).is_file():
        return read_items(folder)
    samples = Run(folder).samples()
    label = list(samples[-1].get("answers") or {"": None})[-1] if samples else ""
    return [
        Item(
            str(sample.get("set")),
            str(sample.get("id")),
            str(sample.get("id")),
            content_key([sample.get("prompt"), sample.get("expected")]),
            (sample.get("answers") or {}).get(label, {}).get("score"),
        )
        for sample in samples
    ]


def _refuse_other_prompts(was: Sequence[Item], now: Sequence[Item], before: Path, after: Path) -> None:
    asked = {_key(item): item.asked for item in was}
    differ = [item for item in now if asked.get(_key(item), item.asked) != item.asked]
    if differ:
        raise RunError(
            f"{len(differ)} items of {before} and {after} were asked or judged differently, the first: "
            f"{differ[0].task} {differ[0].id}\n"
            "    why:    a difference would be that of the prompts, the judge or the settings, not of the models\n"
            "    to do:  evaluate both with the same questions, judge and settings"
        )


def _key(item: Item) -> tuple[str, str]:
    return item.task, item.id
