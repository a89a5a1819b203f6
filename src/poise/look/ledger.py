"""What curation did: rows in, made and used, and the rows that each stage dropped, by reason.

{"stage": "exact", "reason": "same prompt", "rows": 1204}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poise.curate.write import COUNTS, LEDGER
from poise.look.clusters import clusters_of
from poise.look.curated import opened


def ledger_of(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the counts, the drops and the duplicate clusters of a curated folder."""
    order = {stage["name"]: number for number, stage in enumerate(manifest["stages"])}
    with opened(path / LEDGER) as parquet:
        table = parquet.read(columns=["stage", "reason"])
    groups = table.group_by(["stage", "reason"]).aggregate([([], "count_all")]).to_pylist()
    dropped = {(each["stage"], each["reason"]): each["count_all"] for each in groups}
    counts = json.loads((path / COUNTS).read_text())
    kept = {name: counts[name] for name in ("in", "made", "used", "by_source")}
    return {"counts": kept, "dropped": drops_in_order(dropped, order), "clusters": clusters_of(path, manifest)}


def drops_in_order(dropped: Mapping[tuple[str, str], int], order: Mapping[str, int]) -> list[dict[str, Any]]:
    """List rows by stage and reason in the order of the stages, loading first, a stage's commonest reason first."""
    listed = [{"stage": stage, "reason": reason, "rows": rows} for (stage, reason), rows in dropped.items()]
    return sorted(listed, key=lambda each: (order.get(each["stage"], -1), -each["rows"], each["reason"]))
