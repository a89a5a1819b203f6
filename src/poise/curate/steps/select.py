"""Selection: so many rows, the longest or shortest ones or any, in all or of each source.

- tokens: {tokenizer: mistralai/Mistral-7B-v0.1, max: 2048}
- select: {count: 1000, by: tokens}
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from poise.curate.rows import Decisions, Rows, drops_of
from poise.curate.selection import Texts, hashes, top_by
from poise.curate.step import Step
from poise.errors import RecipeError


class Select(Step):
    """How many rows are kept, and which."""

    count: int | None = Field(default=None, gt=0)
    """Keep so many; all, where there are fewer."""
    fraction: float | None = Field(default=None, gt=0, le=1)
    """Keep this share of them."""
    by: Literal["tokens", "hash"] = "hash"
    """`tokens`: the longest or shortest, as the step tokens counted them before. `hash`: any, by seed and id."""
    per: Literal["source", "stratum"] | None = None
    """Count or share hold for each source, or each stratum of each source, by itself."""
    order: Literal["longest", "shortest"] = "longest"
    """Which of the counted rows are kept."""
    seed: int = 42
    """Which rows `hash` means."""

    @model_validator(mode="after")
    def _one_number(self) -> "Select":
        if (self.count is None) == (self.fraction is None):
            raise ValueError("select needs one of count and fraction")
        if self.by == "hash" and "order" in self.model_fields_set:
            raise ValueError("order goes with `by: tokens`; by hash no row is longer than another")
        return self

    def kept(self, ids: Texts, tokens: Any = None, groups: Texts | None = None) -> npt.NDArray[np.bool_]:
        """Mark the rows that are kept; `tokens` are needed to select by them."""
        by_hash = self.by == "hash"
        return top_by(
            hashes(ids, self.seed, "select") if by_hash else tokens,
            ids,
            count=self.count,
            fraction=self.fraction,
            groups=groups,
            smallest=by_hash or self.order == "shortest",
        )

    def decide(self, rows: Rows) -> Decisions:
        """Drop the rows that are not selected."""
        table = rows.table("source", "stratum", *(["tokens"] if self.by == "tokens" else []))
        if self.by == "tokens" and "tokens" not in table.column_names:
            raise RecipeError(
                "select: by tokens, but nothing has counted them\n"
                "    to do:  put the step tokens before it, or select by hash"
            )
        tokens = table["tokens"] if self.by == "tokens" else None
        mask = self.kept(table["id"], tokens, self._groups(table))
        left = table.filter(pa.array(~mask))
        told = self._evidence(left)
        phrase = "not selected" if self.by == "hash" else f"not among the {self.order}"
        return Decisions(
            drops_of((row_id, phrase, each, "") for row_id, each in zip(left["id"].to_pylist(), told, strict=True)),
            {"kept": int(mask.sum())},
        )

    def _groups(self, table: pa.Table) -> list[str] | None:
        if self.per is None:
            return None
        sources = table["source"].to_pylist()
        if self.per == "source":
            return sources
        strata = table["stratum"].to_pylist()
        return [f"{source}\x1f{stratum}" for source, stratum in zip(sources, strata, strict=True)]

    def _evidence(self, left: pa.Table) -> list[str]:
        if self.by == "tokens":
            return ["no tokens" if count is None else f"{count:,} tokens" for count in left["tokens"].to_pylist()]
        size = f"count {self.count}" if self.count is not None else f"fraction {self.fraction}"
        return [f"{size} per {self.per}" if self.per else size] * len(left)
