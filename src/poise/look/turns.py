"""The turns of many rows in flat arrays, so that lengths are added up by numpy and not row by row.

rows     [user Hi, assistant Hello]  [system Be kind, user Hi, assistant Yes]
row         0      0                    1               1       1
part     prompt  answer              prompt          prompt  answer
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from poise.curate.arrow import compute as pc

PROMPT, ANSWER, REJECTED, WHOLE = range(4)
TURNS_IN = {
    "conversation": (("messages", PROMPT, ANSWER),),
    "labeled_conversation": (("messages", PROMPT, ANSWER),),
    "preference_pair": (("prompt", PROMPT, PROMPT), ("chosen", PROMPT, ANSWER), ("rejected", REJECTED, REJECTED)),
    "ranked_answers": (("prompt", PROMPT, PROMPT), ("answers", PROMPT, ANSWER)),
}
"""Columns of turns, and which part of a row the assistant's (the last) and all others are."""


@dataclass(frozen=True)
class Turns:
    """Every turn of some rows, flat; each array is (turns,)."""

    row: np.ndarray
    part: np.ndarray
    is_system: np.ndarray
    content: pa.Array


def turns_of(kind: str, columns: pa.RecordBatch) -> Turns:
    """Flatten rows of a kind; of ranked answers the best counts, and a document is one turn."""
    if kind == "document":
        rows = np.arange(columns.num_rows)
        return Turns(rows, np.full_like(rows, WHOLE), np.zeros(len(rows), dtype=bool), columns.column("text"))
    found = [_flat(_lists(columns, name), others, last) for name, others, last in TURNS_IN[kind]]
    return Turns(
        row=np.concatenate([each.row for each in found]),
        part=np.concatenate([each.part for each in found]),
        is_system=np.concatenate([each.is_system for each in found]),
        content=pa.concat_arrays([each.content for each in found]),
    )


def _lists(columns: pa.RecordBatch, name: str) -> Any:
    """Return a column of lists of turns; of ranked answers the best."""
    column: Any = columns.column(name)
    if name != "answers":
        return column
    best = [ranks.index(min(ranks)) for ranks in columns.column("ranks").to_pylist()]
    return column.values.take(pa.array(column.offsets.to_numpy()[:-1] + np.array(best, dtype=np.int32)))


def _flat(lists: Any, others: int, assistant: int) -> Turns:
    turns = lists.flatten()
    role = pc.struct_field(turns, "role").fill_null("")
    of_assistant, is_system = (pc.equal(role, name).to_numpy(zero_copy_only=False) for name in ("assistant", "system"))
    content = pc.struct_field(turns, "content").fill_null("")
    return Turns(
        pc.list_parent_indices(lists).to_numpy(), np.where(of_assistant, assistant, others), is_system, content
    )
