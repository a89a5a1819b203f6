"""The rows of a folder that `poise curate` wrote: data/KIND/SPLIT-00000.parquet."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from poise.curate.write import CONTENT
from poise.errors import RunError
from poise.look.table import ABOUT, BATCH_ROWS, TOKENS, Table


def curated_tables(path: Path) -> list[Table]:
    """Return a table of every file; RunError where there is none, or one cannot be read."""
    files = [(kind, file) for kind in CONTENT for file in sorted((path / "data" / kind).glob("*.parquet"))]
    if not files:
        raise RunError(f"{path}: there are no rows in {path / 'data'}\n    to do:  `poise curate` the recipe again")
    return [Table(kind, file.stem.rpartition("-")[0], _size(file), partial(_read, file, kind)) for kind, file in files]


@contextmanager
def opened(file: Path) -> Generator[pq.ParquetFile]:
    """Open a file that `poise curate` wrote; RunError where it is damaged or another's."""
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (pa.ArrowException, OSError, KeyError) as error:
        raise RunError(
            f"{file}: not as `poise curate` writes it: {str(error).partition(chr(10))[0]}\n"
            "    why:    it is damaged, cut off, or was written by something else\n"
            "    to do:  `poise curate` the recipe again"
        ) from None


def _size(file: Path) -> int:
    with opened(file) as parquet:
        return parquet.metadata.num_rows


def _read(file: Path, kind: str) -> Iterator[pa.RecordBatch]:
    with opened(file) as parquet:
        measured = [(name, pa.int64()) for name in TOKENS.values() if name in parquet.schema_arrow.names]
        schema = pa.schema([*CONTENT[kind], *ABOUT, *measured])
        for batch in parquet.iter_batches(BATCH_ROWS, columns=schema.names):
            yield batch.select(schema.names).cast(schema)
