"""Rows of Apache Arrow tables: parquet files, and what `datasets` holds."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from poise.sources.opening import REBUILD, Read, check_content, opened
from poise.sources.refusal import FileError, RowError

BATCH_ROWS = 1000


def read_parquet(path: Path) -> Iterator[Read]:
    """Read a parquet file, a batch of rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with opened(path) as file:
        check_content(path, file.read(64))
    try:
        with pq.ParquetFile(path) as table:
            yield from read_batches(table.iter_batches(batch_size=BATCH_ROWS))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise FileError(
            path,
            f"cannot be read as parquet: {str(error).partition(chr(10))[0]}",
            "it is damaged, cut off, or not parquet",
            REBUILD,
        ) from None


def read_batches(batches: Iterable[Any]) -> Iterator[Read]:
    """Number the rows of record batches or tables, from 1."""
    number = 0
    for batch in batches:
        for row in _rows(batch):
            number += 1
            yield number, row


def _rows(batch: Any) -> Iterator[dict[str, Any] | RowError]:
    """Convert a batch; one value that Python cannot hold costs its row, not the batch."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for index in range(batch.num_rows):
            yield _row(batch.slice(index, 1))


def _row(batch: Any) -> dict[str, Any] | RowError:
    columns: dict[str, Any] = {}
    for name in batch.schema.names:
        try:
            columns[name] = batch.column(name)[0].as_py()
        except UnicodeDecodeError as error:
            what = f"not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1}"
            return RowError("not UTF-8", f" {name}", what, "text is read as UTF-8 only", "write the column as UTF-8")
        except (ValueError, OverflowError) as error:
            what = f"a value that cannot be read: {error}"
            return RowError("unreadable value", f" {name}", what, "a row is used whole or not at all", "correct it")
    return columns
