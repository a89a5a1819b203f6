"""Decontamination: rows that give a benchmark's items away are dropped, and every match is told.

- decontaminate: {benchmarks: [gsm8k, mmlu, {name: exam, path: exam.jsonl}]}
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from poise.curate.benchmarks import BENCHMARKS, Item, load_benchmark, unknown_benchmark
from poise.curate.leaks import Leaks
from poise.curate.matcher import WHOLE_WORDS, Match, Matcher
from poise.curate.reason import Reason
from poise.curate.rows import Decisions, Rows, drops_of, example_of
from poise.curate.step import Judge
from poise.examples import Example


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _unique(chosen: "tuple[Chosen, ...]") -> "tuple[Chosen, ...]":
    twice = [name for name, count in Counter(each.name for each in chosen).items() if count > 1]
    if twice:
        raise ValueError(f"the benchmark {twice[0]!r} is there twice")
    return chosen


class Chosen(BaseModel):
    """A benchmark to keep out of the rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    """One of poise.curate.benchmarks, or what a set of your own is called in every count."""
    path: str | None = None
    """A local copy; the Hub by default."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""

    @model_validator(mode="after")
    def _known(self) -> "Chosen":
        if self.name not in BENCHMARKS and self.path is None:
            raise ValueError(unknown_benchmark(self.name))
        return self


class Decontaminate(Judge):
    """Which benchmarks are kept out, and how much of an item gives it away."""

    benchmarks: Annotated[
        tuple[Annotated[Chosen, BeforeValidator(_named)], ...], Field(min_length=1), AfterValidator(_unique)
    ]
    """Names, or name, path and revision."""
    ngram: int = Field(13, ge=WHOLE_WORDS)
    """Words of an n-gram; 13 as in GPT-3, below which common phrases are found."""
    share: float = Field(0.5, gt=0, le=1)
    """The share of an item's n-grams from which a row is dropped. One n-gram alone is mostly shared boilerplate; at a
    half a copy may be edited in a place or two or cut short, and other questions of one template stay: of the 7,473
    training questions of GSM8K, none has more than 0.11 of a test question, other numbers apart."""
    allow: tuple[str, ...] = ()
    """What stands within one of these texts is never a match: boilerplate, or an item as a whole."""

    @cached_property
    def matcher(self) -> "Matcher":
        """The benchmarks' items, indexed once."""
        return Matcher(self._items, ngram=self.ngram, share=self.share, allow=self.allow)

    @cached_property
    def _items(self) -> list[Item]:
        return [item for each in self.benchmarks for item in load_benchmark(each.name, each.path, each.revision)]

    def fingerprint(self) -> str:
        """Hash the items: a benchmark that has changed is looked for anew."""
        return blake2b(json.dumps([asdict(item) for item in self._items]).encode()).hexdigest()

    def judge(self, example: Example) -> Reason | None:
        """Return what the row gives away, or None."""
        return self.matcher.judge(example)

    def decide(self, rows: Rows) -> Decisions:
        """Judge every row, and report by benchmark."""
        found = rows.engine.mapped(
            rows.frame("kind", "content"), _Told(self.matcher), ("kind", "content"), "leaks", rows.count
        )
        told = rows.engine.collect(rows.engine.present(found, "leaks").select("id", "leaks"))
        report = Leaks(self.matcher.states)
        drops: list[tuple[str, str, str, str]] = []
        for row, leaks in zip(told["id"].to_pylist(), told["leaks"].to_pylist(), strict=True):
            matches = [Match(**match) for match in json.loads(leaks)]
            report.add(row, matches)
            reason = matches[0].reason
            drops.append((row, reason.phrase, reason.evidence, ""))
        return Decisions(drops_of(drops), facts=report.facts())


@dataclass(frozen=True)
class _Told:
    """Gives the matches of whole columns as JSON, for the engine."""

    matcher: Matcher

    def __call__(self, kinds: list[str], contents: list[str]) -> list[str | None]:
        return [self._of(kind, content) for kind, content in zip(kinds, contents, strict=True)]

    def _of(self, kind: str, content: str) -> str | None:
        matches = self.matcher.matches(example_of(kind, content))
        return json.dumps([asdict(match) for match in matches]) if matches else None
