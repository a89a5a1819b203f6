"""The table engine: Daft, embedded in this process or on a Ray cluster, by the few verbs that curation needs.

Only operations that give one result for any order and number of partitions: scan, project, filter, map in batches,
semi- and anti-joins. No windows, no sorts, no positions.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from poise.errors import ResourceError
from poise.progress import Stage

Frame = Any
"""A daft.DataFrame: lazy, and typed by its engine only."""
BATCH_ROWS = 4096
ROWS_FOR_PROCESSES = 20_000
"""From so many rows on, Python functions run in processes of their own; below, starting them costs more."""


class Engine:
    """Tables of parquet files, lazily combined."""

    def __init__(self, runner: Literal["native", "ray"] = "native", address: str | None = None) -> None:
        self.runner = runner
        os.environ["DO_NOT_TRACK"] = "true"
        os.environ["DAFT_PROGRESS_BAR"] = "0"
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import daft

        self._daft = daft
        if runner == "ray":
            _need_ray()
            daft.set_runner_ray(address=address, noop_if_initialized=True)
        else:
            os.environ["DAFT_RUNNER"] = "native"
            daft.get_or_create_runner()
        if daft.get_or_infer_runner_type() != runner:
            raise ResourceError(f"engine: {runner}, but this process runs another already\n    to do:  start a new one")

    def scan(self, files: Sequence[Path]) -> Frame:
        """Read parquet files of one schema."""
        return self._daft.read_parquet([str(file) for file in files])

    def of(self, table: pa.Table) -> Frame:
        """Take a table in memory."""
        return self._daft.from_arrow(table)

    def read(self, files: Sequence[Path], columns: Sequence[str]) -> pa.Table:
        """Read columns of parquet files in this process: for what is small, such as ids and hashes."""
        import pyarrow.parquet as pq

        return pa.concat_tables(pq.ParquetFile(file).read(list(columns), use_threads=False) for file in files)

    def without(self, frame: Frame, ids: pa.Table) -> Frame:
        """Leave out the rows whose `id` is in `ids`."""
        return frame.join(self.of(ids.select(["id"])), on="id", how="anti") if len(ids) else frame

    def only(self, frame: Frame, ids: pa.Table) -> Frame:
        """Keep the rows whose `id` is in `ids`."""
        return frame.join(self.of(ids.select(["id"])), on="id", how="semi")

    def mapped(
        self, frame: Frame, function: Callable[..., list[str | None]], inputs: Sequence[str], name: str, rows: int = 0
    ) -> Frame:
        """Add a text column by a picklable function of whole columns (lists), in batches.

        `rows` says about how many there are, which decides whether starting processes pays; without it they never do,
        as for a function that takes no longer than sending it the rows.
        """
        apart = rows >= ROWS_FOR_PROCESSES and self.runner == "native"
        daft = self._daft

        @daft.cls(use_process=apart, max_concurrency=os.cpu_count() if apart else None, name_override=name)
        class Mapped:
            def __init__(self, function: Callable[..., list[str | None]]) -> None:
                self.function = function

            @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=BATCH_ROWS)
            def map(self, *columns: Any) -> Any:
                return self.function(*(column.to_pylist() for column in columns))

        return frame.with_column(name, Mapped(function).map(*(daft.col(each) for each in inputs)))

    def collect(self, frame: Frame, shown: Stage | None = None) -> pa.Table:
        """Compute a frame and show the rows as they come; their order means nothing."""
        batches = frame.to_arrow_iter(results_buffer_size=None)
        return pa.Table.from_batches(_counted(batches, shown), schema=frame.schema().to_pyarrow_schema())


def _counted(batches: Iterable[pa.RecordBatch], shown: Stage | None) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        rows += len(batch)
        if shown is not None:
            shown.advance(rows)
        yield batch


def _need_ray() -> None:
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise ResourceError(
            "engine: ray needs the package ray, which is not installed\n"
            "    why:    the cluster's scheduler is an extra, because one machine does not need it\n"
            "    to do:  pip install 'poise[cluster]', or leave engine out"
        )
