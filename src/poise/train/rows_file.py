"""Rendered rows in files, for several processes: tokens are mapped into memory, a Row is made when one is asked for.

rows/ids.npy       (tokens,) int32      rows/segments.npy   (segments, 4) int64: end, parent, rank, label
rows/trained.npy   (tokens,) bool       rows/ends.npy       (rows, 2) int64: end among segments, end of the texts
rows/texts.npy     bytes of each row's id and place, UTF-8
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args, overload

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from poise.batch.row import Label, Row, Segment

LABELS: tuple[Label | None, ...] = (None, *get_args(Label))
BETWEEN = "\0"
"""Between a row's id and its place."""


class StoredRows(Sequence[Row]):
    """Rows of a folder that `write_rows` filled; the files may be removed once it is made."""

    def __init__(self, folder: Path) -> None:
        self._ids, self._trained, self._segments, self._ends, self._texts = (
            np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)  # "c": torch wants to be able to write
            for name in ("ids", "trained", "segments", "ends", "texts")
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        """Make the Row at a place; its arrays are views of the files."""
        if isinstance(index, slice):
            return [self._row(each) for each in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self._row(place)

    def _row(self, index: int) -> Row:
        first, text = self._ends[index - 1].tolist() if index else (0, 0)
        last, text_end = self._ends[index].tolist()
        start = int(self._segments[first - 1, 0]) if first else 0
        segments: list[Segment] = []
        for end, parent, rank, label in self._segments[first:last].tolist():
            ids, trained = np.asarray(self._ids[start:end]), np.asarray(self._trained[start:end])
            segments.append(Segment(ids, trained, parent, None if rank < 0 else rank, LABELS[label]))
            start = end
        name, place = self._texts[text:text_end].tobytes().decode().split(BETWEEN, 1)
        return Row(name, tuple(segments), place)


def write_rows(folder: Path, rows: Sequence[Row]) -> None:
    """Write rows into a new folder, straight into the mapped files."""
    folder.mkdir(parents=True)
    segments = [segment for row in rows for segment in row.segments]
    texts = [f"{row.id}{BETWEEN}{row.place}".encode() for row in rows]
    shapes = np.array(
        [
            (len(each), each.parent, -1 if each.rank is None else each.rank, LABELS.index(each.label))
            for each in segments
        ],
        np.int64,
    ).reshape(-1, 4)
    shapes[:, 0] = np.cumsum(shapes[:, 0])
    counts = np.array([(len(row.segments), len(text)) for row, text in zip(rows, texts, strict=True)], np.int64)
    tokens = int(shapes[-1, 0]) if len(shapes) else 0
    ids, trained = (
        _new(folder / f"{name}.npy", kind, tokens) for name, kind in (("ids", np.int32), ("trained", np.bool_))
    )
    start = 0
    for segment, end in zip(segments, shapes[:, 0].tolist(), strict=True):
        ids[start:end], trained[start:end] = segment.ids, segment.trained
        start = end
    for name, values in (("segments", shapes), ("ends", counts.reshape(-1, 2).cumsum(axis=0))):
        np.save(folder / f"{name}.npy", values)
    np.save(folder / "texts.npy", np.frombuffer(b"".join(texts), np.uint8))


def _new(file: Path, kind: Any, length: int) -> npt.NDArray[Any]:
    return cast("npt.NDArray[Any]", open_memmap(file, mode="w+", dtype=kind, shape=(length,)))
