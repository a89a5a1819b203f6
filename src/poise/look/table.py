"""Rows of one kind and split as columns, read in batches, so that a dataset need not fit into memory.

id        source  messages                                                    tokens
chat:1f…  chat    [{role: user, content: Hi}, {role: assistant, content: …}]      12
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from poise.curate.selection import hashes
from poise.look.turns import Turns, turns_of

ABOUT = (("id", pa.string()), ("source", pa.string()))
"""Columns of every batch, beside its kind's."""
TOKENS = {"prompt": "prompt_tokens", "answer": "answer_tokens", "combined": "tokens"}
"""Columns that the step `tokens` measures, by the part of a row; not in every dataset."""
BATCH_ROWS = 4096
UNNAMED = "?"
"""A source without a name."""


@dataclass(frozen=True)
class Batch:
    """Some rows of a table."""

    kind: str
    split: str
    columns: pa.RecordBatch
    """Those of the kind, of ABOUT, and of TOKENS where they were measured."""

    def __len__(self) -> int:
        return self.columns.num_rows

    @cached_property
    def turns(self) -> Turns:
        """Every turn of its rows."""
        return turns_of(self.kind, self.columns)

    @cached_property
    def hashes(self) -> np.ndarray:
        """Hash of each id, (rows,): what is chosen by these is the same in any order of rows."""
        return hashes(self.columns.column("id").fill_null(""), 0, "look")

    def sources(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each source with the numbers of its rows."""
        encoded: Any = self.columns.column("source").fill_null(UNNAMED).dictionary_encode()
        codes = encoded.indices.to_numpy()
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            yield name, np.flatnonzero(codes == code)


@dataclass(frozen=True)
class Table:
    """All rows of one kind and split, or some of them."""

    kind: str
    split: str
    rows: int
    read: Callable[[], Iterator[pa.RecordBatch]]

    def batches(self) -> Iterator[Batch]:
        """Read the rows."""
        return (Batch(self.kind, self.split, columns) for columns in self.read())
