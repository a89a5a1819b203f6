"""How long rows are: characters, tokens and turns, of what is asked, answered, rejected, of both, and of documents.

Of a row only its lengths stay in memory, some 40 bytes. Tokens are those that the step `tokens` measured, or counted by
a tokenizer under its chat template.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from poise.curate.arrow import compute as pc
from poise.curate.write import CONTENT
from poise.examples import Example, from_json
from poise.look.histogram import histogram
from poise.look.table import TOKENS, Batch
from poise.look.turns import ANSWER, PROMPT, REJECTED, WHOLE
from poise.look.wording import rows_of

if TYPE_CHECKING:
    from poise.curate.steps.tokens import TokenCounter

TOKENIZED_ROWS = 20_000
"""About so many rows, chosen by hash, are given to a tokenizer: a million would take a quarter of an hour."""
PARTS = ("prompt", "answer", "rejected", "combined", "document")
"""Of a row; a document is neither asked nor answered, and so much longer that it has a chart of its own."""
ALL_HASHES = 2**64 - 1


class Lengths:
    """The lengths found so far, by unit and part; tokens by a tokenizer, or as they were measured without one."""

    def __init__(self, tokenizer: str | None, rows: int) -> None:
        self._tokenizer, self._counter = tokenizer, _counter(tokenizer)
        self._last_hash = ALL_HASHES if rows <= TOKENIZED_ROWS else 2**64 * TOKENIZED_ROWS // rows
        self._found: dict[tuple[str, str], list[np.ndarray]] = {}

    def add(self, batch: Batch) -> None:
        """Measure a batch."""
        for part, found in _characters(batch).items():
            self._keep("characters", part, found)
        if batch.kind != "document":
            said = batch.turns.row[(batch.turns.part != REJECTED) & ~batch.turns.is_system]
            self._keep("turns", "combined", np.bincount(said, minlength=len(batch)))
        tokens = self._tokens(batch)
        if batch.kind == "document":
            tokens = {"document": tokens["combined"]} if "combined" in tokens else {}
        for part, found in tokens.items():
            self._keep("tokens", part, found)

    def facts(self, step: Mapping[str, Any]) -> dict[str, Any]:
        """Return histograms, and what counted tokens; `step` are the recipe's keys of `tokens`."""
        drawn = {(unit, part): np.concatenate(parts) for (unit, part), parts in self._found.items()}
        cut = step.get("max") if self._tokenizer in (None, step.get("tokenizer")) else None
        lengths = {
            unit: {
                part: histogram(drawn[unit, part], cut if (unit, part) == ("tokens", "combined") else None)
                for part in PARTS
                if len(drawn.get((unit, part), ()))
            }
            for unit in ("characters", "tokens", "turns")
        }
        turns = lengths.pop("turns").get("combined")
        return {"lengths": lengths, "counted_by": self._counted_by(lengths["tokens"], step), "turns": turns}

    def _counted_by(self, tokens: dict[str, Any], step: Mapping[str, Any]) -> str | None:
        if not tokens:
            return None
        chosen = ", chosen by hash" if self._counter and self._last_hash < ALL_HASHES else ""
        tokenizer = self._tokenizer or step.get("tokenizer", "the column")
        rows = sum(tokens[part]["rows"] for part in ("combined", "document") if part in tokens)
        return f"{tokenizer}, {rows_of(rows)}{chosen}"

    def _tokens(self, batch: Batch) -> dict[str, np.ndarray]:
        if self._counter is None:
            there = {part: name for part, name in TOKENS.items() if name in batch.columns.schema.names}
            return {part: batch.columns.column(name).drop_null().to_numpy() for part, name in there.items()}
        from poise.curate.steps.tokens import Count

        chosen = _examples(batch, batch.hashes <= np.uint64(self._last_hash))
        counted = [each for each in self._counter.count(chosen) if isinstance(each, Count)]
        names = {"prompt": "prompt", "answer": "answer", "combined": "total"}
        return {part: np.array([getattr(each, name) for each in counted]) for part, name in names.items()}

    def _keep(self, unit: str, part: str, found: np.ndarray) -> None:
        self._found.setdefault((unit, part), []).append(found.astype(np.int32))


def _counter(tokenizer: str | None) -> "TokenCounter | None":
    if tokenizer is None:
        return None
    from poise.curate.steps.tokens import Tokens

    return Tokens(tokenizer=tokenizer).counter()


def _characters(batch: Batch) -> dict[str, np.ndarray]:
    """Add up the turns' characters by row."""
    turns = batch.turns
    lengths = pc.utf8_length(turns.content).to_numpy(zero_copy_only=False)
    prompt, answer, rejected, whole = (
        np.bincount(turns.row[turns.part == part], weights=lengths[turns.part == part], minlength=len(batch))
        for part in (PROMPT, ANSWER, REJECTED, WHOLE)
    )
    if batch.kind == "document":
        return {"document": whole}
    found = {"prompt": prompt, "answer": answer, "combined": prompt + answer}
    return {**found, "rejected": rejected} if batch.kind == "preference_pair" else found


def _examples(batch: Batch, wanted: np.ndarray) -> Iterator[Example]:
    for row in batch.columns.filter(pa.array(wanted)).to_pylist():
        content = {"desirable" if name == "label" else name: row[name] for name, _ in CONTENT[batch.kind]}
        yield from_json({"kind": batch.kind, "lineage": (), **content})
