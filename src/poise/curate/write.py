"""Write what a curation kept: parquet by kind and split, the ledger of what it did not keep, counts and a card.

    data/conversation/train-00000.parquet   messages
    data/preference_pair/…                  prompt, chosen, rejected
    data/document/…                         text
                                            and where rows have a form of their own: chat_template, trained_answers
    ledger.parquet                          stage, source, place, id, reason, evidence, other
    ledger.json                             the counts, by source, stage and reason
    charts/…                                drawings of the card
    curation.json                           recipe, stages, and the SHA-256 of every file

Rows stand in the order of the sources, so that equal input gives equal bytes.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from poise import progress
from poise.curate.arrow import compute as pc
from poise.curate.card import card
from poise.curate.charts import draw_charts
from poise.curate.curation import Curation
from poise.curate.formats import Formatter
from poise.curate.rows import QUIET_SECONDS, Rows, example_of
from poise.curate.selection import repeats, split
from poise.examples import DEFAULTS, Conversation, fields_of
from poise.run import file_sha256, write_whole
from poise.sources.form import TEMPLATE, TRAINED
from poise.sources.tables import CURATION

MANIFEST, LEDGER, COUNTS = CURATION, "ledger.parquet", "ledger.json"
ROWS_PER_FILE = 100_000
LOOKED_UP = ("id", "source", "place")

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
CONTENT = {
    "document": [("text", pa.string())],
    "conversation": [("messages", MESSAGES)],
    "preference_pair": [("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES)],
    "labeled_conversation": [("messages", MESSAGES), ("label", pa.bool_())],
    "ranked_answers": [("prompt", MESSAGES), ("answers", pa.list_(MESSAGES)), ("ranks", pa.list_(pa.int64()))],
}
FORM = [(TEMPLATE, pa.string()), (TRAINED, pa.string())]
"""Columns of rows that are trained in a form of their own, see poise.sources.form."""
NAMED = {"desirable": "label", "template": TEMPLATE, "trained": TRAINED}
"""Fields of an Example whose columns are called otherwise."""
ABOUT = [("id", pa.string()), ("source", pa.string()), ("question", pa.string()), ("lineage", pa.list_(pa.string()))]
LEDGER_COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("stage", "source", "place", "id", "reason", "evidence", "other")]
)

StageFacts = tuple[str, Path, dict[str, Any]]


def write_dataset(folder: Path, curation: Curation, rows: Rows, stages: Sequence[StageFacts]) -> dict[str, Any]:
    """Fill `folder` with everything but the manifest; returns the counts."""
    kept = rows.table("source", "opening")
    ids = kept["id"].to_pylist()
    test = _held_out(kept, ids, curation)
    times = _times(kept, ids, curation)
    has_forms = curation.formats is not None or any(map(_have_forms, rows.files))
    formatter = Formatter(curation.formats, curation.seed) if has_forms else None
    wanted = dict(zip(ids, zip(test, times, strict=True), strict=True))
    written = _write_rows(folder, rows, wanted, formatter)
    total = sum(sum(splits.values()) for splits in written.values())
    formats = {"formats": formatter.facts(total)} if formatter else {}
    counts = _write_ledger(folder, rows, stages, kept, formats)
    charts = draw_charts(folder, counts, [name for name, _, _ in stages if not name.startswith("load-")])
    write_whole(folder / "README.md", card(curation, counts, written, stages, charts))
    return {"rows": total, "written": written, **formats}


def publish(folder: Path, out: Path, manifest: dict[str, Any]) -> None:
    """Bring a finished stage's files to their place, file by file, and last the manifest that names their hashes."""
    files = sorted(
        path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != "stage.json"
    )
    for path in files:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        staged = out / path.parent / f".{path.name}.{os.getpid()}"
        shutil.copyfile(folder / path, staged)
        staged.replace(out / path)
    for old in sorted((out / "data").rglob("*")):
        if old.is_file() and old.relative_to(out) not in files:
            old.unlink()
    hashes = {path.as_posix(): file_sha256(out / path) for path in files}
    write_whole(out / MANIFEST, json.dumps({**manifest, "files": hashes}, indent=2, default=str) + "\n")


def _held_out(kept: pa.Table, ids: list[str], curation: Curation) -> np.ndarray:
    """Mark the rows of the test split: sources that are held out, and of the others what the recipe splits off."""
    labels = {entry.label for entry in curation.sources if entry.held_out}
    test = np.array([source in labels for source in kept["source"].to_pylist()], dtype=bool)
    if curation.split is not None:
        rest = np.flatnonzero(~test)
        openings = kept["opening"].take(pa.array(rest)).to_pylist()
        test[rest] = split(openings, [ids[index] for index in rest], curation.split.test, curation.seed)
    return test


def _times(kept: pa.Table, ids: list[str], curation: Curation) -> np.ndarray:
    """How often each row is written; held-out rows are written once."""
    wanted = {entry.label: entry.repeat for entry in curation.sources if entry.repeat != 1}
    times = np.ones(len(ids), dtype=np.int64)
    sources = np.array(kept["source"].to_pylist(), dtype=object)
    for label, repeat in wanted.items():
        own = np.flatnonzero(sources == label)
        times[own] = repeats([ids[index] for index in own], repeat, curation.seed)
    return times


@dataclass
class _Shards:
    """Parquet files of one kind and split, begun anew every ROWS_PER_FILE rows."""

    folder: Path
    split: str
    schema: pa.Schema
    rows: int = 0
    pending: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    files: int = 0

    def add(self, row: dict[str, Any]) -> None:
        self.pending.append(row)
        if len(self.pending) == ROWS_PER_FILE:
            self.flush()

    def flush(self) -> None:
        if not self.pending:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(self.pending, schema=self.schema)
        pq.write_table(table, self.folder / f"{self.split}-{self.files:05d}.parquet", compression="zstd")
        self.rows += len(self.pending)
        self.files += 1
        self.pending = []


def _write_rows(
    folder: Path, rows: Rows, wanted: dict[str, tuple[bool, int]], formatter: Formatter | None
) -> dict[str, dict[str, int]]:
    shards: dict[tuple[str, str], _Shards] = {}
    measured = [(name, table.schema.field(name).type) for table in rows.columns for name in table.column_names[1:]]
    for row, about, (is_test, times) in _kept_rows(rows, wanted):
        kind, key = row["kind"], (row["kind"], "test" if is_test else "train")
        if key not in shards:
            form = FORM[: {"document": 0, "conversation": 2}.get(kind, 1)] if formatter else []
            schema = pa.schema([*CONTENT[kind], *form, *ABOUT, *measured])
            shards[key] = _Shards(folder / "data" / kind, key[1], schema)
        for content in _contents(row, 1 if is_test else times, formatter):
            shards[key].add({**content, **about})
    written: dict[str, dict[str, int]] = {}
    for (kind, name), each in sorted(shards.items()):
        each.flush()
        written.setdefault(kind, {})[name] = each.rows
    return written


def _have_forms(file: Path) -> bool:
    """Whether a source's rows have forms of their own; within a text the quotes would be escaped."""
    contents = pq.read_table(file, columns=["content"])["content"]
    found = [pc.match_substring(contents, f'"{name}":"') for name in DEFAULTS]
    return any(pc.any(each).as_py() for each in found)


def _contents(row: dict[str, Any], times: int, formatter: Formatter | None) -> Iterator[dict[str, Any]]:
    """Yield the columns of a kept row's content, as often as it is written."""
    stored = json.loads(row["content"])
    if formatter is None:
        yield from [_columns(stored)] * times
        return
    example = example_of(row["kind"], row["content"])
    for part, names in formatter.forms(row["id"], example, times):
        content = _columns(stored if part is example else fields_of(part))
        if isinstance(part, Conversation):
            content[TRAINED] = part.trained
        yield from ({**content, TEMPLATE: name or None} for name in names)


def _columns(content: dict[str, Any]) -> dict[str, Any]:
    return {NAMED.get(name, name): value for name, value in content.items()}


def _kept_rows(
    rows: Rows, wanted: dict[str, tuple[bool, int]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any], tuple[bool, int]]]:
    """Yield every kept row in the order of the sources, and what is known of it as columns."""
    measured = [{row["id"]: row for row in table.to_pylist()} for table in rows.columns]
    done = 0
    with progress.stage(rows.stage, len(wanted), QUIET_SECONDS) as shown:
        for file in rows.files:
            for row in pq.read_table(file).to_pylist():
                chosen = wanted.get(row["id"])
                if chosen is None:
                    continue
                about = {name: row[name] for name, _ in ABOUT}
                values = (each.get(row["id"], {}) for each in measured)
                more = {name: value for each in values for name, value in each.items() if name != "id"}
                yield row, {**about, **more}, chosen
                done += 1
            shown.advance(done)


def _write_ledger(
    folder: Path, rows: Rows, stages: Sequence[StageFacts], kept: pa.Table, formats: dict[str, Any]
) -> dict[str, Any]:
    known = rows.engine.collect(rows.engine.scan(rows.files).select(*LOOKED_UP))
    parts = [_ledger_part(name, path, known) for name, path, _ in stages if (path / "drops.parquet").is_file()]
    ledger = pa.concat_tables(parts) if parts else LEDGER_COLUMNS.empty_table()
    pq.write_table(ledger, folder / LEDGER, compression="zstd")
    counts = {**_counts(stages, ledger, known, kept), **formats}
    write_whole(folder / COUNTS, json.dumps(counts, indent=2) + "\n")
    return counts


def _ledger_part(name: str, path: Path, known: pa.Table) -> pa.Table:
    """Say of a stage's drops where the rows came from; those of a load stage never had an id."""
    drops = pq.read_table(path / "drops.parquet")
    found = pc.index_in(drops["id"], value_set=known["id"])
    sources, places = (known[column].take(found) for column in ("source", "place"))
    apart = [row_id.partition("@") for row_id in drops["id"].to_pylist()]
    stage = name.partition("-")[0] if name.startswith("load-") else name
    unknown = pc.is_null(found)
    columns = {
        "stage": pa.array([stage] * len(drops), pa.string()),
        "source": pc.if_else(unknown, pa.array([label for label, _, _ in apart], pa.string()), sources),
        "place": pc.if_else(unknown, pa.array([place for _, _, place in apart], pa.string()), places),
        "id": pc.if_else(unknown, "", drops["id"]),
        **{column: drops[column] for column in ("reason", "evidence", "other")},
    }
    return pa.table(columns, schema=LEDGER_COLUMNS).combine_chunks()


def _counts(stages: Sequence[StageFacts], ledger: pa.Table, known: pa.Table, kept: pa.Table) -> dict[str, Any]:
    """Count rows in, made, kept and dropped, in all and by source; every row is in one of them."""
    made, left = Counter(known["source"].to_pylist()), Counter(kept["source"].to_pylist())
    dropped: dict[str, Counter[str]] = {}
    listed = ledger.select(["source", "stage", "reason"]).to_pylist()
    for row in listed:
        dropped.setdefault(row["source"], Counter())[f"{row['stage']}: {row['reason']}"] += 1
    loads = {path: facts for name, path, facts in stages if name.startswith("load-")}
    sources = {facts["source"]: facts for facts in loads.values()}
    total = sum(dropped.values(), Counter[str]())
    return {
        "in": sum(facts["in"] for facts in sources.values()),
        "made": made.total(),
        "used": left.total(),
        "dropped": dict(sorted(total.items())),
        "by_source": {
            source: {
                "in": facts["in"],
                "made": made[source],
                "used": left[source],
                "dropped": dict(sorted(dropped.get(source, Counter()).items())),
            }
            for source, facts in sources.items()
        },
    }
