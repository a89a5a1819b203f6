"""From measured cells to ratios and a table; a ratio above 1 is in poise's favour."""

from collections.abc import Sequence
from typing import Any

from curation.plan import PEERS
from preference.table import checked

HEAD = ("arm", "CPU s", "wall s", "rows / CPU s", "peak MiB", "kept", "exact found", "near found", "precision", "left")
RATE, PEAK = "rows per CPU second", "peak memory"

Line = dict[str, Any]
"""One measured cell as it is written: cell, and result or failed."""
Results = dict[tuple[str, str, int], dict[str, Any]]


def figures(lines: Sequence[Line]) -> dict[str, float]:
    """Return every ratio, and what poise took and found at the most rows, by name."""
    results: Results = {tuple(line["cell"].values()): line["result"] for line in lines if "result" in line}
    headline = max((rows for _, arm, rows in results if arm not in PEERS), default=0)
    found: dict[str, float] = {}
    for task, arm, rows in results:
        if arm in PEERS:
            found |= _ratios(results, task, arm, rows, headline)
        elif rows == headline:
            found |= _own(f"{task}: {arm}", results[task, arm, rows])
    return found


def _ratios(results: Results, task: str, peer: str, rows: int, headline: int) -> dict[str, float]:
    theirs = results[task, peer, rows]
    found = {
        f"{task}: {arm} / {peer}, {RATE}": ours["rows_per_cpu_second"] / theirs["rows_per_cpu_second"]
        for (of, arm, count), ours in results.items()
        if of == task and arm not in PEERS and count == headline
    }
    equal = results.get((task, "poise", rows))
    if equal is not None:
        ratio = equal["rows_per_cpu_second"] / theirs["rows_per_cpu_second"]
        found[f"{task}, both on {rows:,} rows: poise / {peer}, {RATE}"] = ratio
        found[f"{task}, both on {rows:,} rows: {peer} / poise, {PEAK}"] = theirs["peak_bytes"] / equal["peak_bytes"]
    return found


def _own(name: str, result: dict[str, Any]) -> dict[str, float]:
    told = {
        "CPU seconds": result["cpu_seconds"],
        "wall seconds": result["seconds"],
        "peak GB": result["peak_bytes"] / 1e9,
        "near found": result["found"]["near"],
        "precision": result["precision"],
        "left": result["left"],
        "lost": result["lost"],
    }
    return {f"{name}, {what}": value for what, value in told.items() if value is not None}


def as_markdown(lines: Sequence[Line], asks: Sequence[str] = ()) -> str:
    """Write a table for each task and number of rows, the figures, the versions, and what was asked."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(f"{line['cell']['task']}, {line['cell']['rows']:,} rows", []).append(line)
    found = figures(lines)
    ratios = ["| figure | value |", "|---|---|", *(f"| {name} | {value:.3g} |" for name, value in found.items())]
    tables = [_table(name, group) for name, group in sorted(groups.items())]
    return "\n\n".join([*tables, "\n".join(ratios), _versions(lines), *checked(asks, found)])


def _table(name: str, lines: Sequence[Line]) -> str:
    return "\n".join([f"### {name}", "", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *map(_row, lines)])


def _row(line: Line) -> str:
    arm = line["cell"]["arm"]
    if "failed" in line:
        return f"| {arm} | {line['failed'].replace('|', '/')} " + "| " * (len(HEAD) - 2) + "|"
    result = line["result"]
    shares = (result["found"]["exact"], result["found"]["near"], result["precision"], result["left"])
    cells = (
        arm,
        f"{result['cpu_seconds']:.2f}",
        f"{result['seconds']:.2f}",
        f"{result['rows_per_cpu_second']:,.0f}",
        f"{result['peak_bytes'] / 2**20:,.0f}",
        f"{result['kept']:,}",
        *("" if share is None else f"{share:.4f}" for share in shares),
    )
    return f"| {' | '.join(cells)} |"


def _versions(lines: Sequence[Line]) -> str:
    told = {
        f"{line['cell']['arm'].partition('-road')[0]}: " + ", ".join(f"{k} {v}" for k, v in versions.items())
        for line in lines
        if (versions := line.get("result", {}).get("versions"))
    }
    return "\n".join(f"* {each}" for each in sorted(told))


def one_line(line: Line) -> str:
    """Say what came of a cell."""
    if "failed" in line:
        return line["failed"]
    result = line["result"]
    return (
        f"{result['cpu_seconds']:8.2f} CPU s {result['seconds']:8.2f} s "
        f"{result['rows_per_cpu_second']:10,.0f} rows/CPU s {result['peak_bytes'] / 2**20:7,.0f} MiB  "
        f"kept {result['kept']:,}"
    )
