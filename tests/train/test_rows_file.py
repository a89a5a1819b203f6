"""Rows that are written and mapped into memory are the rows that were written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poise.batch.row import Row, Segment
from poise.train.rows_file import StoredRows, write_rows


def segment(*ids: int, **facts: Any) -> Segment:
    return Segment(np.array(ids, np.int32), np.array([each % 2 for each in ids], np.bool_), **facts)


ROWS = [
    Row("a", (segment(1, 2, 3),), "data/train.jsonl:1"),
    Row("pair", (segment(4, 5), segment(6, parent=0, rank=0), segment(7, 8, parent=0, rank=1)), "häuser.jsonl:2"),
    Row("empty", (segment(), segment(9, parent=0, label="mismatched")), ""),
    Row("kto", (segment(1), segment(2, 3, parent=0, label="desirable"), segment(5, parent=0, label="undesirable"))),
]


def told(row: Row) -> Any:
    return (row.id, row.place, [
        (each.ids.tolist(), each.trained.tolist(), each.parent, each.rank, each.label) for each in row.segments
    ])  # fmt: skip


@pytest.fixture
def stored(tmp_path: Path) -> StoredRows:
    write_rows(tmp_path / "rows", ROWS)
    return StoredRows(tmp_path / "rows")


def test_rows_come_back_as_they_were(stored: StoredRows) -> None:
    assert [told(row) for row in stored] == [told(row) for row in ROWS]
    assert [row.digest() for row in stored] == [row.digest() for row in ROWS]
    assert (told(stored[-1]), [row.id for row in stored[1:3]]) == (told(ROWS[-1]), ["pair", "empty"])
    with pytest.raises(IndexError):
        stored[len(ROWS)]


def test_tokens_stay_in_the_file(stored: StoredRows, tmp_path: Path) -> None:
    ids = stored[1].segments[2].ids
    mapped = ids.base
    while not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert ids.dtype == np.int32 and torch.from_numpy(ids).tolist() == [7, 8]
    for file in (tmp_path / "rows").iterdir():
        file.unlink()
    assert told(stored[1]) == told(ROWS[1])


def test_no_rows_are_a_folder_too(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", [])
    assert list(StoredRows(tmp_path / "rows")) == []
