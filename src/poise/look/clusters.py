"""Duplicates as a person sees them: the rows that lost to one row, at whatever stage and in however many steps.

ledger    3 lost to 2,  2 lost to 1,  4 lost to 1        cluster    1 was kept; 2, 3 and 4 lost to it
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from poise.curate.arrow import compute as pc
from poise.curate.pipeline import STAGES
from poise.curate.write import LEDGER
from poise.look.curated import opened
from poise.look.shown import Turn, shown

CLUSTERS, MEMBERS = 8, 4
"""Shown of all clusters, the largest first, and of the rows that lost in each."""


def clusters_of(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Count the clusters of a curated folder, and show the largest."""
    with opened(path / LEDGER) as parquet:
        listed = parquet.read(columns=["id", "other"])
    lost = listed.filter(pc.not_equal(listed["other"], "")).combine_chunks()
    if not len(lost):
        return {"clusters": 0, "rows": 0, "largest": []}
    kept = _kept_at_last(lost)
    counted = pa.RecordBatch.from_struct_array(pc.value_counts(kept))
    largest = counted.sort_by([("counts", "descending"), ("values", "ascending")]).slice(0, CLUSTERS).to_pylist()
    sizes = {each["values"]: each["counts"] for each in largest}
    members = {winner: sorted(lost["id"].filter(pc.equal(kept, winner)).to_pylist())[:MEMBERS] for winner in sizes}
    about = _about(path, manifest, [row_id for winner, ids in members.items() for row_id in (winner, *ids)])
    shown_of = [
        {"rows": rows, "kept": about[winner], "lost": [about[row_id] for row_id in members[winner]]}
        for winner, rows in sizes.items()
    ]
    return {"clusters": len(counted), "rows": len(lost), "largest": shown_of}


def _kept_at_last(lost: pa.Table) -> pa.Array:
    """Return of every row that lost the one that won, not one that lost itself at a later stage."""
    winners = lost["other"].combine_chunks()
    found = pc.index_in(winners, value_set=lost["id"].combine_chunks()).fill_null(-1).to_numpy()
    last = np.where(found >= 0, found, np.arange(len(lost)))
    for _ in range(len(lost).bit_length()):
        last = last[last]
    return winners.take(pa.array(last))


def _about(path: Path, manifest: dict[str, Any], ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what is known of rows: why each was dropped, and its turns where the stages still hold it."""
    ledger = pq.read_table(path / LEDGER, filters=[("id", "in", ids)]).to_pylist()
    drops = {each["id"]: {name: each[name] for name in ("stage", "reason", "evidence")} for each in ledger}
    turns = _stored_turns(path, manifest, pa.array(ids))
    return {row_id: {"id": row_id, **drops.get(row_id, {}), "turns": turns.get(row_id)} for row_id in ids}


def _stored_turns(path: Path, manifest: dict[str, Any], ids: pa.Array) -> dict[str, list[Turn]]:
    found: dict[str, list[Turn]] = {}
    folders = [path / STAGES / f"{stage['name']}-{stage['key']}" for stage in manifest["stages"]]
    for file in (file for folder in folders for file in sorted(folder.glob("rows-*.parquet"))):
        with opened(file) as parquet:
            wanted = pc.is_in(parquet.read(columns=["id"])["id"], value_set=ids)
            if pc.any(wanted).as_py():
                for row in parquet.read(columns=["id", "kind", "content"]).filter(wanted).to_pylist():
                    found[row["id"]] = shown(row["kind"], json.loads(row["content"]))
    return found
