"""What changed between two builds of a dataset: the recipe, the rows, and why."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from poise.curate.arrow import compute as pc
from poise.curate.trace import manifest_of
from poise.curate.write import LEDGER

EXAMPLES = 5


def diff(before: Path, after: Path) -> dict[str, Any]:
    """Compare two curated folders; rows are the same where their ids are."""
    manifests = [manifest_of(folder) for folder in (before, after)]
    kept = [_kept(folder) for folder in (before, after)]
    ledgers = [pq.read_table(folder / LEDGER) for folder in (before, after)]
    gone, come = _without(kept[0], kept[1]), _without(kept[1], kept[0])
    return {
        "recipe": _changes(manifests[0]["recipe"], manifests[1]["recipe"]),
        "rows": {"before": len(kept[0]), "after": len(kept[1]), "gone": len(gone), "come": len(come)},
        "formats": _changes(*(manifest["stages"][-1].get("formats", {}) for manifest in manifests)),
        "gone": _why(gone, ledgers[1], "not in the sources any more"),
        "come": _why(come, ledgers[0], "new in the sources"),
    }


def told(found: dict[str, Any]) -> str:
    """Write a comparison for a person."""
    rows = found["rows"]
    lines = [f"{rows['before']:,} rows before, {rows['after']:,} after: {rows['gone']:,} gone, {rows['come']:,} come"]
    lines += [f"recipe: {path}: {before!r} → {after!r}" for path, (before, after) in found["recipe"].items()]
    lines += [f"formats: {path}: {before!r} → {after!r}" for path, (before, after) in found["formats"].items()]
    for name, verb in (("gone", "gone, now"), ("come", "come, before")):
        for group in found[name]:
            lines.append(f"{group['rows']:,} {group['source']} {verb}: {group['reason']}")
            lines += [f"    {row_id}" for row_id in group["examples"]]
    return "\n".join(lines)


def _kept(folder: Path) -> pa.Table:
    files = sorted((folder / "data").rglob("*.parquet"))
    tables = [pq.read_table(file, columns=["id", "source"]) for file in files]
    return pa.concat_tables(tables).group_by(["id", "source"]).aggregate([]).sort_by("id")


def _without(rows: pa.Table, others: pa.Table) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["id"], value_set=others["id"].combine_chunks())))


def _why(rows: pa.Table, ledger: pa.Table, otherwise: str) -> list[dict[str, Any]]:
    """Group rows by source and by what the other build's ledger says of them."""
    found = pc.index_in(rows["id"], value_set=ledger["id"].combine_chunks())
    groups: dict[tuple[str, str], list[str]] = {}
    for row_id, source, place in zip(
        rows["id"].to_pylist(), rows["source"].to_pylist(), found.to_pylist(), strict=True
    ):
        reason = otherwise
        if place is not None:
            reason = f"dropped by {ledger['stage'][place].as_py()}: {ledger['reason'][place].as_py()}"
        groups.setdefault((source, reason), []).append(row_id)
    sizes = Counter({group: len(ids) for group, ids in groups.items()})
    return [
        {"source": source, "reason": reason, "rows": rows, "examples": groups[source, reason][:EXAMPLES]}
        for (source, reason), rows in sorted(sizes.items(), key=lambda each: (-each[1], each[0]))
    ]


def _changes(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """List the values of two recipes that differ, by their path."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        parts = [_changes(before.get(key), after.get(key), f"{path}.{key}".lstrip(".")) for key in keys]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        parts = [_changes(*each, f"{path}[{index}]") for index, each in enumerate(zip(before, after, strict=True))]
    else:
        return {path: (before, after)} if before != after else {}
    return {key: value for part in parts for key, value in part.items()}
