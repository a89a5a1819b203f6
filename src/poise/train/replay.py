"""The rows of a step that went wrong, kept as replay/step-N.json: ids, tokens, mask, text, and what was seen."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poise.batch.row import Row, Segment
from poise.errors import RunError
from poise.run import REPLAY, Run, write_whole

Decode = Callable[[list[int]], str]


def keep_batch(run: Run, step: int, rows: Sequence[Row], facts: dict[str, Any], decode: Decode | None) -> Path:
    """Write the rows of a step with the facts about it; returns the file."""
    file = run.path / REPLAY / f"step-{step}.json"
    kept = {"step": step, **facts, "rows": [_plain(row, decode) for row in rows]}
    write_whole(file, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return file


def kept_batches(run: Run) -> list[Path]:
    """Return what was kept, the latest step last."""
    return sorted((run.path / REPLAY).glob("step-*.json"), key=lambda file: int(file.stem.partition("-")[2]))


def read_batch(run: Run, step: int | None = None) -> tuple[dict[str, Any], list[Row]]:
    """Return the facts and the rows of a kept step, the latest where none is named; RunError where there is none."""
    files = kept_batches(run)
    wanted = [file for file in files if step is None or file.stem == f"step-{step}"]
    if not wanted:
        of_step = "" if step is None else f" of step {step}"
        there = "".join(f", it has {file.stem}" for file in files)
        raise RunError(
            f"{run.path} keeps no batch{of_step}{there}\n"
            "    why:    a batch is kept only where its loss or gradient was not sound"
        )
    facts = json.loads(wanted[-1].read_text(encoding="utf-8"))
    return facts, [_row(plain) for plain in facts.pop("rows")]


def _plain(row: Row, decode: Decode | None) -> dict[str, Any]:
    return {"id": row.id, "place": row.place, "segments": [_plain_segment(each, decode) for each in row.segments]}


def _plain_segment(segment: Segment, decode: Decode | None) -> dict[str, Any]:
    ids = segment.ids.tolist()
    told = {"rank": segment.rank, "label": segment.label, "text": decode(ids) if decode else None}
    plain = {"parent": segment.parent, "ids": ids, "trained": segment.trained.astype(int).tolist()}
    return plain | {name: value for name, value in told.items() if value is not None}


def _row(plain: dict[str, Any]) -> Row:
    segments = (
        Segment(
            np.array(each["ids"], np.int32),
            np.array(each["trained"], np.bool_),
            each["parent"],
            each.get("rank"),
            each.get("label"),
        )
        for each in plain["segments"]
    )
    return Row(plain["id"], tuple(segments), plain["place"])
