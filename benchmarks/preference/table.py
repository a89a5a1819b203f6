"""From measured cells to ratios, geometric means and a table; a ratio above 1 is in poise's favour."""

import math
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

COMPARED = 10
"""Steps whose losses are compared."""
RATIOS = {"wall": "seconds", "steps": "step_seconds", "peak memory": "peak_bytes", "memory growth": "growth_bytes"}
MEAN_OF = ("trl", "trl-best", "trl-fastest", "poise-unshared", "poise-unpacked")
FASTEST = "trl-fastest"
"""Whichever of TRL's arms took the least time."""
HEAD = ("arm", "seconds", "steps", "reference", "trained tok/s", "all tok/s", "peak MiB", "growth MiB", "share", "loss")
ASKED = re.compile(r"(?P<name>.+?)\s*(?P<sign>>=|<=)\s*(?P<figure>[-+.\deE]+)")

Line = dict[str, Any]
"""One measured cell as it is written: cell, settings, facts, and result or failed."""


def figures(lines: Sequence[Line]) -> dict[str, float]:
    """Return every ratio, largest loss difference and geometric mean by name."""
    found: dict[str, float] = {}
    for name, arms in _groups(lines).items():
        ours = arms.get("poise")
        for rival, theirs in (arms | _fastest(arms)).items():
            if ours is not None and rival != "poise":
                found |= {f"{name}: {each}": value for each, value in _compared(rival, ours, theirs).items()}
    return found | _means(found)


def _fastest(arms: dict[str, Any]) -> dict[str, Any]:
    """Return the fastest of TRL's arms under a name of its own, where there are several."""
    theirs = [result for arm, result in arms.items() if arm.startswith("trl")]
    return {FASTEST: min(theirs, key=lambda result: result["seconds"])} if len(theirs) > 1 else {}


def _groups(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for line in lines:
        if "result" in line:
            groups.setdefault(group_name(line), {})[line["cell"]["arm"]] = line["result"]
    return groups


def group_name(line: Line) -> str:
    """Name what an arm's rivals share with it."""
    return " ".join(line["cell"][part] for part in ("method", "tuning", "dtype", "data"))


def _compared(rival: str, ours: Any, theirs: Any) -> dict[str, float]:
    found = {
        f"{rival} / poise, {what}": theirs[key] / ours[key]
        for what, key in RATIOS.items()
        if theirs[key] > 0 and ours[key] > 0
    }
    return found | {f"{rival} - poise, loss": loss_difference(ours, theirs)}


def loss_difference(ours: Any, theirs: Any) -> float:
    """Return the largest difference of the first ten losses."""
    first = zip(ours["losses"][:COMPARED], theirs["losses"][:COMPARED], strict=False)
    return max(abs(one - other) for one, other in first)


def _means(found: dict[str, float]) -> dict[str, float]:
    """Average DPO's ratios over the data sets, geometrically."""
    gathered: dict[str, list[float]] = {}
    for name, value in found.items():
        group, figure = name.split(": ")
        method, tuning, dtype, _ = group.split()
        rival, _, what = figure.partition(" / poise, ")
        if method == "dpo" and rival in MEAN_OF and what in RATIOS:
            gathered.setdefault(f"dpo {tuning} {dtype}, mean: {figure}", []).append(value)
    return {name: geometric_mean(values) for name, values in gathered.items()}


def geometric_mean(values: Iterable[float]) -> float:
    """Return the n-th root of the product of n positive values."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def checked(asks: Sequence[str], found: dict[str, float]) -> list[str]:
    """Say beside each asked figure, `NAME>=FIGURE` or `NAME<=FIGURE`, what was measured; nothing is asserted."""
    return [_checked(ask, found) for ask in asks]


def _checked(ask: str, found: dict[str, float]) -> str:
    read = ASKED.fullmatch(ask.strip())
    if read is None:
        return f"{ask}: not understood, expected NAME>=FIGURE or NAME<=FIGURE"
    name, sign, figure = read["name"], read["sign"], float(read["figure"])
    asked = f"{name}: asked {'at least' if sign == '>=' else 'at most'} {figure:g}"
    if name not in found:
        return f"{asked}, not measured"
    holds = {">=": operator.ge, "<=": operator.le}[sign](found[name], figure)
    return f"{asked}, measured {found[name]:.3g}: {'yes' if holds else 'no'}"


def as_markdown(lines: Sequence[Line], asks: Sequence[str] = ()) -> str:
    """Write a table for each group, the figures, and what was asked."""
    by_group: dict[str, list[Line]] = {}
    for line in lines:
        by_group.setdefault(group_name(line), []).append(line)
    found = figures(lines)
    ratios = ["| figure | value |", "|---|---|", *(f"| {name} | {value:.3g} |" for name, value in found.items())]
    parts = [*(_group_table(name, group) for name, group in by_group.items()), "\n".join(ratios)]
    return "\n\n".join([*parts, *checked(asks, found)])


def _group_table(name: str, lines: Sequence[Line]) -> str:
    facts = next((line["facts"] for line in lines if "facts" in line), None)
    size = f": {facts['rows']} rows, {facts['parameters'] / 1e6:.1f} M parameters" if facts else ""
    ours = next((line["result"] for line in lines if line["cell"]["arm"] == "poise" and "result" in line), None)
    rows = [_row(line, ours) for line in lines]
    return "\n".join([f"### {name}{size}", "", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *rows])


def _row(line: Line, ours: Any) -> str:
    arm = line["cell"]["arm"]
    if "failed" in line:
        return f"| {arm} | failed: {line['failed'].replace('|', '/')} " + "| " * (len(HEAD) - 2) + "|"
    cells = (arm, *_shown(line["result"]), f"{loss_difference(ours, line['result']):.1e}" if ours else "")
    return f"| {' | '.join(cells)} |"


def _shown(result: Any) -> tuple[str, ...]:
    reference = result["reference_seconds"]
    return (
        f"{result['seconds']:.1f}",
        f"{result['step_seconds']:.1f}",
        "" if reference is None else f"{reference:.1f}",
        f"{result['trained_tokens_per_second']:,.0f}",
        f"{result['processed_tokens_per_second']:,.0f}",
        f"{result['peak_bytes'] / 2**20:,.0f}",
        f"{result['growth_bytes'] / 2**20:,.0f}",
        f"{result['share']:.1%}",
    )


def one_line(line: Line) -> str:
    """Say what came of a cell."""
    if "failed" in line:
        return f"failed: {line['failed']}"
    result = line["result"]
    return (
        f"{result['seconds']:7.1f} s  {result['tokens']:9,} tokens  {result['peak_bytes'] / 2**20:6,.0f} MiB  "
        f"{result['share']:6.1%} of the product rate  loss {result['losses'][0]:.6f}"
    )
