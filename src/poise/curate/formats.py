"""Prompt formats of rows, and conversations cut into one row per answer: how bagel taught one row in several forms.

    all       alpaca vicuna llama-2 chatml     every row in every format                    4 of 4
    slices    alpaca   .    llama-2 chatml     in all but one, which differs by row         3 of 4
    one         .      .    llama-2   .        in one                                       1 of 4

    turns: whole     [question 1][⟦answer 1⟧][question 2][⟦answer 2⟧]       every answer is trained
    turns: each      [question 1][⟦answer 1⟧]                               the last answer of each row is
                     [question 1][ answer 1 ][question 2][⟦answer 2⟧]

jondurbin/bagel rendered every row four times at first, later four overlapping slices of 75 %: three times each row.
Test rows are split off by question before any of this, or one question stands on both sides in other clothes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from poise.batch.tokens import shipped_templates
from poise.curate.selection import Seed, hashes
from poise.errors import DataError
from poise.examples import OWN_TEMPLATE, Conversation, Document, Example, template_of
from poise.names import did_you_mean

Policy = Literal["all", "one", "slices"]


class Formats(BaseModel):
    """Recipe keys: in which prompt formats rows are written, and whether each answer becomes a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: tuple[str, ...] = Field(default=(OWN_TEMPLATE,), min_length=1)
    """Chat templates that come with poise, and `tokenizer` for that of the model that is trained."""
    policy: Policy = "all"
    """Every row in all of them, in all but one, or in one; which is drawn by hash of the row."""
    turns: Literal["whole", "each"] = "whole"
    """A conversation stays whole and all of its answers are trained, or it becomes a row for each answer."""

    @field_validator("use")
    @classmethod
    def _known(cls, use: tuple[str, ...]) -> tuple[str, ...]:
        known = (*shipped_templates(), OWN_TEMPLATE)
        for name in use:
            if name not in known:
                near = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                raise ValueError(f"{name!r} is no prompt format{near}")
            if use.count(name) > 1:
                raise ValueError(f"the prompt format {name} is there twice")
        return use

    @model_validator(mode="after")
    def _enough(self) -> "Formats":
        if self.policy != "all" and len(self.use) < 2:
            raise ValueError(f"policy: {self.policy} chooses among several formats, `use` names {len(self.use)}")
        return self


@dataclass
class Formatter:
    """Write each kept row in the forms that a recipe asks for, and count them."""

    formats: Formats | None
    seed: Seed
    rows: int = 0
    """Rows with turns, each as often as it is repeated."""
    expanded: int = 0
    """Rows that these became, one for each answer."""
    as_they_were: int = 0
    """Rows that had a form of their own before, and keep it."""
    documents: int = 0
    by_format: Counter[str] = field(default_factory=Counter[str])
    """Rows written in each format; a row's own counts here too."""

    def forms(self, row_id: str, example: Example, times: int) -> Iterator[tuple[Example, tuple[str, ...]]]:
        """Yield what an Example is written as, `times` times, each part with its formats; "" is none."""
        for copy in range(times):
            yield from self._forms(f"{row_id}#{copy}" if copy else row_id, example)

    def _forms(self, key: str, example: Example) -> Iterator[tuple[Example, tuple[str, ...]]]:
        if isinstance(example, Document):
            self.documents += 1
            yield example, ("",)
            return
        self.rows += 1
        if self.formats is None or _has_form(example):
            self.as_they_were += _has_form(example)
            self.expanded += 1
            self.by_format[template_of(example) or OWN_TEMPLATE] += 1
            yield example, (template_of(example),)
            return
        parts = self._parts(example)
        self.expanded += len(parts)
        keys = [f"{key}#answer {number}" if len(parts) > 1 else key for number in range(1, len(parts) + 1)]
        for part, names in zip(parts, formats_of(keys, self.formats.use, self.formats.policy, self.seed), strict=True):
            self.by_format.update(names)
            yield part, names

    def _parts(self, example: Example) -> Sequence[Example]:
        cut = self.formats is not None and self.formats.turns == "each" and isinstance(example, Conversation)
        return expanded(example) if cut and isinstance(example, Conversation) else [example]

    def facts(self, written: int) -> dict[str, object]:
        """Return the counts; DataError where they do not come to the rows that were written."""
        if written != self.documents + self.by_format.total():
            raise DataError(
                f"{written:,} rows written, but {self.documents:,} documents and {self.by_format.total():,} in formats "
                "counted; this is a defect of the writer"
            )
        return {
            "rows": self.rows,
            "after_expansion": self.expanded,
            "made_by_expansion": self.expanded - self.rows,
            "kept_their_own": self.as_they_were,
            "written": dict(sorted(self.by_format.items())),
            "documents": self.documents,
        }


def formats_of(keys: Sequence[str], formats: Sequence[str], policy: Policy, seed: Seed) -> list[tuple[str, ...]]:
    """Return each row's formats in the order given, drawn by the hash of its key alone."""
    every = tuple(formats)
    if policy == "all":
        return [every] * len(keys)
    drawn = (hashes(keys, seed, "formats") % len(every)).tolist()
    if policy == "one":
        return [(every[each],) for each in drawn]
    return [tuple(name for name in every if name != every[each]) for each in drawn]


def expanded(conversation: Conversation) -> list[Conversation]:
    """Return the conversation up to each of its answers, of which the last alone is trained.

    An answer that says nothing gives no row, and what follows the last answer is left out.
    """
    messages = conversation.messages
    ends = [
        index
        for index, message in enumerate(messages, start=1)
        if message.role == "assistant" and message.content.strip()
    ]
    return [replace(conversation, messages=messages[:end], trained="last") for end in ends] or [conversation]


def _has_form(example: Example) -> bool:
    return bool(template_of(example)) or (isinstance(example, Conversation) and example.trained == "last")
