"""Decontamination: rows that give a benchmark's items away are dropped, and every match is told.

- decontaminate: {benchmarks: [gsm8k, mmlu, {name: exam, path: exam.jsonl}]}
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from poise.cache import cache_folder
from poise.curate.benchmarks import BENCHMARKS, Item, load_benchmark, unknown_benchmark
from poise.curate.encoder import Encoder, folder_digest, load_encoder
from poise.curate.leaks import Leaks
from poise.curate.matcher import WHOLE_WORDS, Match, Matcher
from poise.curate.reason import Reason
from poise.curate.reworded import comparable, forms, reworded
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
    model: str | None = Field(default=None, min_length=1)
    """A sentence-transformers model, by Hub id or folder, to find reworded items by its vectors too."""
    revision: str | None = None
    """Branch, tag or commit of the model."""
    threshold: float | None = Field(default=None, gt=0, le=1)
    """The cosine from which a turn is a leak; it is the model's, so there is no default."""
    guard: bool = True
    """Whether a turn with other numbers or code than the item's is none by its vector."""

    @model_validator(mode="after")
    def _keys_of_the_model(self) -> "Decontaminate":
        if self.model is None:
            strange = [key for key in ("revision", "threshold", "guard") if key in self.model_fields_set]
            if strange:
                raise ValueError(f"{strange[0]} is about vectors, and there is no `model` to make them")
        elif self.threshold is None:
            raise ValueError("a model needs its threshold; no threshold fits two models")
        return self

    @cached_property
    def matcher(self) -> "Matcher":
        """The benchmarks' items, indexed once."""
        return Matcher(self._items, ngram=self.ngram, share=self.share, allow=self.allow)

    @cached_property
    def _items(self) -> list[Item]:
        return [item for each in self.benchmarks for item in load_benchmark(each.name, each.path, each.revision)]

    def fingerprint(self) -> list[str | None]:
        """Hash the items, and the model's weights where they lie in a folder: what has changed is looked for anew."""
        items = blake2b(json.dumps([asdict(item) for item in self._items]).encode()).hexdigest()
        return [items, folder_digest(self.model)]

    def judge(self, example: Example) -> Reason | None:
        """Return what the row gives away, or None."""
        return self.matcher.judge(example)

    def decide(self, rows: Rows) -> Decisions:
        """Judge every row, and report by benchmark."""
        return self.decided(rows, load_encoder(self.model, self.revision) if self.model else None)

    def decided(self, rows: Rows, encoder: Encoder | None) -> Decisions:
        """Judge every row by words, and where there is an encoder by its vectors too."""
        found = {
            row: [Match(**match) for match in json.loads(leaks)]
            for row, leaks in _read(rows, _Told(self.matcher), "leaks")
        }
        leaks = Leaks(self.matcher.states)
        facts: dict[str, Any] = {}
        if encoder is not None and self.threshold is not None:
            for row, matches in self._reworded(rows, encoder, self.threshold):
                known = {(match.benchmark, match.item) for match in found.get(row, ())}
                further = [match for match in matches if (match.benchmark, match.item) not in known]
                found[row] = [*found.get(row, ()), *further]
            facts = {"vectors": {"threshold": self.threshold, "guard": self.guard, **encoder.space}}
        drops: list[tuple[str, str, str, str]] = []
        for row, matches in found.items():
            leaks.add(row, matches)
            drops.append((row, matches[0].reason.phrase, matches[0].reason.evidence, ""))
        told = {benchmark: each | facts for benchmark, each in leaks.facts().items()}
        return Decisions(drops_of(drops), facts=told)

    def _reworded(self, rows: Rows, encoder: Encoder, threshold: float) -> Iterable[tuple[str, list[Match]]]:
        turns = ((row, json.loads(listed)) for row, listed in _read(rows, _turns, "turns"))
        looked_for = forms(self._items, self.matcher)
        cache = cache_folder() / "vectors"
        return reworded(turns, looked_for, encoder, threshold, guard=self.guard, cache=cache).items()


def _read(rows: Rows, function: Callable[..., list[str | None]], name: str) -> Iterator[tuple[str, str]]:
    """Yield (id, what the function says of the row) where it says something."""
    found = rows.mapped(function, ("kind", "content"), name, "id", apart=True).drop_null()
    return zip(found["id"].to_pylist(), found[name].to_pylist(), strict=True)


def _turns(kinds: list[str], contents: list[str]) -> list[str | None]:
    """Give the turns of whole columns as JSON, for the engine."""
    return [json.dumps(comparable(example)) for example in map(example_of, kinds, contents)]


@dataclass(frozen=True)
class _Told:
    """Gives the matches of whole columns as JSON, for the engine."""

    matcher: Matcher

    def __call__(self, kinds: list[str], contents: list[str]) -> list[str | None]:
        return [self._of(kind, content) for kind, content in zip(kinds, contents, strict=True)]

    def _of(self, kind: str, content: str) -> str | None:
        matches = self.matcher.matches(example_of(kind, content))
        return json.dumps([asdict(match) for match in matches]) if matches else None
