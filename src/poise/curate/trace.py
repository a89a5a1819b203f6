"""The passport of a row: where it came from, what every stage decided about it, and which rows lost to it."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from poise.curate.arrow import compute as pc
from poise.curate.pipeline import STAGES
from poise.curate.write import LEDGER, MANIFEST
from poise.errors import RunError
from poise.names import did_you_mean
from poise.sources.form import TEMPLATE, TRAINED

NEIGHBOURS = 20
SHOWN = 400


def trace(out: Path, row_id: str) -> list[dict[str, Any]]:
    """Return what is known of every row whose id, content hash or place (`source@file:row`) is `row_id`."""
    manifest = manifest_of(out)
    ledger = pq.read_table(out / LEDGER)
    rows = _rows(out, manifest, row_id)
    never_made = [{"id": None, **row} for row in _at(ledger, row_id)]
    if not rows and not never_made:
        raise _not_found(out, manifest, row_id)
    return [_passport(out, manifest, ledger, row) for row in rows] + never_made


def told(passport: dict[str, Any]) -> str:
    """Write a passport for a person."""
    if passport["id"] is None:
        return f"{passport['source']}@{passport['place']}: dropped by {passport['stage']}: {_reason(passport)}"
    lines = [passport["id"], f"    from:   {passport['source']}, {', '.join(passport['lineage'])}"]
    lines += [f"    {each['stage'] + ':':<20} {each['decision']}" for each in passport["decisions"]]
    lines += [f"    kept instead:       {each['id']}: {each['content'][:SHOWN]}" for each in passport["kept_instead"]]
    lines += [f"    dropped as well:    {each['id']} ({_reason(each)})" for each in passport["dropped_alike"]]
    lines += [f"    written:            {each}" for each in passport["written"]]
    lines += [f"    instead of:         {each['id']} ({each['stage']}: {_reason(each)})" for each in passport["lost"]]
    return "\n".join([*lines, f"    content:            {passport['content'][:SHOWN]}"])


def manifest_of(out: Path) -> dict[str, Any]:
    """Read the manifest of a curated folder."""
    file = out / MANIFEST
    if not file.is_file():
        raise RunError(f"{out} is not a curated dataset: it has no {MANIFEST}\n    to do:  name the `out` of a recipe")
    return json.loads(file.read_text())


def _rows(out: Path, manifest: dict[str, Any], row_id: str) -> list[dict[str, Any]]:
    """Find the stored rows: by id, by the hash in it, or by source and place."""
    found: list[dict[str, Any]] = []
    for stage in manifest["stages"]:
        if not stage["name"].startswith("load-"):
            continue
        for file in sorted((out / STAGES / f"{stage['name']}-{stage['key']}").glob("rows-*.parquet")):
            head = pq.read_table(file, columns=["id", "source", "lineage"])
            wanted = pc.or_(pc.equal(head["id"], row_id), pc.match_substring(head["id"], f":{row_id}"))
            if "@" in row_id:
                source, _, place = row_id.partition("@")
                places = [place in lineage for lineage in head["lineage"].to_pylist()]
                wanted = pc.or_(wanted, pc.and_(pc.equal(head["source"], source), pa.array(places)))
            if pc.any(wanted).as_py():
                found += pq.read_table(file).filter(wanted).to_pylist()
    return found


def _at(ledger: pa.Table, row_id: str) -> list[dict[str, Any]]:
    """Find rows that never became an Example."""
    source, _, place = row_id.partition("@")
    wanted = pc.and_(
        pc.and_(pc.equal(ledger["source"], source), pc.equal(ledger["place"], place)), pc.equal(ledger["id"], "")
    )
    return [{key: row[key] for key in row if key != "id"} for row in ledger.filter(wanted).to_pylist()]


def _passport(out: Path, manifest: dict[str, Any], ledger: pa.Table, row: dict[str, Any]) -> dict[str, Any]:
    drops = {each["stage"]: each for each in ledger.filter(pc.equal(ledger["id"], row["id"])).to_pylist()}
    decisions: list[dict[str, Any]] = []
    for stage in manifest["stages"]:
        if stage["name"].startswith("load-") or stage["name"] == "write":
            continue
        drop = drops.get(stage["name"])
        decisions.append({"stage": stage["name"], "decision": "kept" if drop is None else f"dropped: {_reason(drop)}"})
        if drop is not None:
            break
    lost = ledger.filter(pc.equal(ledger["other"], row["id"])).slice(0, NEIGHBOURS).to_pylist()
    about = {name: row[name] for name in ("id", "source", "lineage", "kind", "question", "content")}
    last = next(iter(drops.values()), None)
    return {
        **about,
        "decisions": decisions,
        "kept_instead": [] if last is None or not last["other"] else _kept_instead(out, manifest, last["other"]),
        "dropped_alike": [] if last is None else _dropped_alike(ledger, last),
        "written": _written(out, row) if not drops else [],
        "lost": lost,
    }


def _kept_instead(out: Path, manifest: dict[str, Any], row_id: str) -> list[dict[str, Any]]:
    """Return the row that a dropped one was found to be like."""
    found = [row for row in _rows(out, manifest, row_id) if row["id"] == row_id]
    return [{name: row[name] for name in ("id", "source", "lineage", "content")} for row in found]


def _dropped_alike(ledger: pa.Table, drop: dict[str, Any]) -> list[dict[str, Any]]:
    """Return other rows that the same stage dropped for the same row, or for the same item of a benchmark."""
    if drop["other"]:
        alike = pc.equal(ledger["other"], drop["other"])
    elif drop["reason"].startswith("leaks "):
        alike = pc.starts_with(ledger["evidence"], drop["evidence"].partition(", ")[0] + ", ")
    else:
        return []
    for name in ("stage", "reason"):
        alike = pc.and_(alike, pc.equal(ledger[name], drop[name]))
    return ledger.filter(pc.and_(alike, pc.not_equal(ledger["id"], drop["id"]))).slice(0, NEIGHBOURS).to_pylist()


def _written(out: Path, row: dict[str, Any]) -> list[str]:
    places: list[str] = []
    for file in sorted((out / "data" / row["kind"]).glob("*.parquet")):
        there = [name for name in ("id", TEMPLATE, TRAINED) if name in pq.read_schema(file).names]
        table = pq.read_table(file, columns=there)
        numbers = pc.indices_nonzero(pc.equal(table["id"], row["id"])).to_pylist()
        forms = map(_form, table.take(numbers).to_pylist())
        places += [f"{file.relative_to(out).as_posix()}:{n + 1}{form}" for n, form in zip(numbers, forms, strict=True)]
    return places


def _form(row: dict[str, Any]) -> str:
    """Say of a written row in which format it is, where it has one of its own."""
    answer = "the last answer" if row.get(TRAINED) == "last" else None
    told = ", ".join(part for part in (row.get(TEMPLATE), answer) if part)
    return f" ({told})" if told else ""


def _reason(drop: dict[str, Any]) -> str:
    instead = f" → {drop['other']}" if drop["other"] else ""
    evidence = f" ({drop['evidence']})" if drop["evidence"] else ""
    return f"{drop['reason']}{evidence}{instead}"


def _not_found(out: Path, manifest: dict[str, Any], row_id: str) -> RunError:
    sources = [stage["source"] for stage in manifest["stages"] if "source" in stage]
    near = did_you_mean(row_id.replace("@", ":").partition(":")[0], sources)
    return RunError(
        f"{out} has no row {row_id!r}{near}\n"
        "    why:    a row is named by its id (source:hash), by the hash alone, or by source@file:row\n"
        f"    to do:  take an id from data/ or {LEDGER}; the sources are {', '.join(sources)}"
    )
