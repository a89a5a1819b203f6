"""The rows of any dataset that poise reads; those that cannot be trained on are its only drops."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from poise.curate.write import CONTENT
from poise.examples import Example, Message
from poise.look.ledger import drops_in_order
from poise.look.table import ABOUT, BATCH_ROWS, Table
from poise.sources import SourceSpec, load
from poise.sources.folders import split_of


def loaded_tables(path: Path) -> tuple[list[Table], dict[str, Any]]:
    """Load a file, a folder or a Hub id whole; returns its tables, and its counts as a ledger has them."""
    loaded = load(SourceSpec(str(path), split=None), on_bad_row="drop")
    groups: dict[tuple[str, str], list[Example]] = {}
    for example in loaded.examples:
        groups.setdefault((example.kind, _split(example.place)), []).append(example)
    tables = [Table(*group, len(rows), partial(_batches, rows)) for group, rows in sorted(groups.items())]
    dropped = Counter((drop.stage, drop.reason) for drop in loaded.drops)
    counts = {"in": loaded.rows_in.total(), "used": len(loaded.examples)}
    return tables, {"counts": counts, "dropped": drops_in_order(dropped, {}), "clusters": None}


def _split(place: str) -> str:
    """Return the split that a file's name says; the folder's own name, which comes first, says none."""
    parts = Path(place.rpartition(":")[0]).parts
    return split_of(Path(*parts[1:] or parts)) or "train"


def _batches(examples: Sequence[Example]) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([*CONTENT[examples[0].kind], *ABOUT])
    for start in range(0, len(examples), BATCH_ROWS):
        rows = [_row(example) for example in examples[start : start + BATCH_ROWS]]
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _row(example: Example) -> dict[str, Any]:
    content = {
        name: _plain(getattr(example, "desirable" if name == "label" else name)) for name, _ in CONTENT[example.kind]
    }
    return {**content, "id": example.place, "source": example.source}


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return {"role": value.role, "content": value.content}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
