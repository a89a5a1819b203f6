"""Token counts under the template that training will use, taken once: for limits, selection, statistics and packing.

    {"prompt_tokens": 412, "answer_tokens": 87, "tokens": 500}      500 is with the newline after the answer's end

The renderer of training counts, so that a row has here the length that it has there: special tokens once, each answer
apart from its prompt. A row that the renderer refuses could not be trained on and is dropped for the renderer's reason.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from poise.curate.reason import Reason
from poise.curate.rows import Decisions, Rows, drops_of, example_of
from poise.curate.step import Step
from poise.curate.tokenizer import FileTokenizer, TokenizerFiles, read_tokenizer
from poise.examples import Document, Example, without_template

if TYPE_CHECKING:
    from poise.batch.render import Renderer
    from poise.batch.row import Row


@dataclass(frozen=True)
class Count:
    """Tokens of one row."""

    prompt: int
    """Before the first token that is trained on; 0 for a document, all of which is trained on."""
    answer: int
    """Trained on; of the answer that has most, where there are several to one prompt."""
    total: int
    """Of the longest sequence: a pair's prompt with its longer answer."""


class Tokens(Step):
    """How long a row may be, in tokens of the model that will be trained."""

    tokenizer: str = Field(min_length=1)
    """A folder, or the id of a model on the Hub."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    template: str | None = None
    """A name of poise.batch.templates such as `chatml`; the tokenizer's own by default."""
    max: int | None = Field(default=None, gt=0)
    """Drop rows of more tokens. A document is never too long: training cuts it into pieces."""
    min: int | None = Field(default=None, gt=0)
    """Drop rows of fewer tokens."""

    @model_validator(mode="after")
    def _some_length_fits(self) -> "Tokens":
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f"no row has at least {self.min} and at most {self.max} tokens")
        return self

    def fingerprint(self) -> str:
        """Hash the tokenizer's files: another tokenizer of the same name counts anew."""
        files = read_tokenizer(self.tokenizer, self.revision)
        return hashlib.sha256(json.dumps(asdict(files), sort_keys=True).encode()).hexdigest()

    def counter(self) -> "TokenCounter":
        """Read the tokenizer; ModelError or RecipeError where it or the template cannot be used."""
        return TokenCounter(read_tokenizer(self.tokenizer, self.revision), self.template)

    def verdict(self, count: Count) -> Reason | None:
        """Return why a row of so many tokens is dropped, or None."""
        if self.max is not None and count.total > self.max and count.prompt:
            return Reason("too long", f"{count.total:,} tokens > {self.max:,}")
        if self.min is not None and count.total < self.min:
            return Reason("too short", f"{count.total:,} tokens < {self.min:,}")
        return None

    def decide(self, rows: Rows) -> Decisions:
        """Count every row once and drop those outside the limits."""
        counter = self.counter()
        facts = {"tokenizer": self.tokenizer, **counter.about}
        measured = rows.measured(counter, "counted")
        drops: list[tuple[str, str, str, str]] = []
        ids: list[str] = []
        counts: list[tuple[int, int, int]] = []
        for row_id, told in zip(measured["id"].to_pylist(), measured["counted"].to_pylist(), strict=True):
            found = _told(told)
            reason = found if isinstance(found, Reason) else self.verdict(found)
            if reason is not None:
                drops.append((row_id, reason.phrase, reason.evidence, ""))
            if isinstance(found, Count):
                ids.append(row_id)
                counts.append((found.prompt, found.answer, found.total))
        return Decisions(drops_of(drops), facts, _columns(ids, counts))


class TokenCounter:
    """Counts tokens of rows; can be pickled, and makes its renderer where it is first used."""

    def __init__(self, files: TokenizerFiles, template: str | None = None) -> None:
        self._files, self._template = files, template

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenCounter, (self._files, self._template)

    def __call__(self, kinds: Sequence[str], contents: Sequence[str]) -> list[str | None]:
        """Count whole columns of kind and content, each row as JSON."""
        examples = (example_of(kind, content) for kind, content in zip(kinds, contents, strict=True))
        return [json.dumps(asdict(found)) for found in self.count(examples)]

    def count(self, examples: Iterable[Example]) -> Iterator[Count | Reason]:
        """Count Examples in order, many at once, all in one template; a Reason says why one cannot be rendered."""
        from poise.batch.render import Refusal

        listed = list(map(without_template, examples))
        for example, row in zip(listed, self._renderer.rows(listed), strict=True):
            if isinstance(row, Refusal):
                yield Reason(row.reason, row.evidence)
            else:
                yield _count(row, isinstance(example, Document))

    @property
    def about(self) -> dict[str, str]:
        """Which template counts, by name and by hash of its text."""
        prepared = self._renderer.prepared
        return {"template": prepared.template_name, "template_hash": prepared.template_hash}

    @cached_property
    def _renderer(self) -> "Renderer":
        from poise.batch.render import Renderer
        from poise.batch.tokens import prepare_tokenizer

        return Renderer(prepare_tokenizer(cast(Any, FileTokenizer(self._files)), self._template))


def _count(row: "Row", is_document: bool) -> Count:
    total = max(row.sequence_lengths())
    if is_document:
        return Count(0, total, total)
    prompt = int(np.argmax(np.concatenate([segment.trained for segment in row.segments])))
    return Count(prompt, max(int(segment.trained.sum()) for segment in row.segments), total)


def _told(text: str) -> Count | Reason:
    found = json.loads(text)
    return Reason(**found) if "phrase" in found else Count(**found)


def _columns(ids: list[str], counts: list[tuple[int, int, int]]) -> pa.Table:
    """Return id and what was counted of it."""
    numbers = np.array(counts, dtype=np.int64).reshape(len(ids), 3)
    names = ("prompt_tokens", "answer_tokens", "tokens")
    columns = {name: pa.array(numbers[:, index]) for index, name in enumerate(names)}
    return pa.table({"id": pa.array(ids, pa.string()), **columns})
