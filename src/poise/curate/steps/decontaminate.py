"""Decontamination: rows that give a benchmark's items away are dropped, and every match is told.

Rows and benchmark texts are compared as words: NFC, no case, no punctuation. How much of a text must be found depends
on how many words it has:

    13 and more   the share of its 13-grams that the row holds (Brown et al. 2020, arXiv:2005.14165, appendix C)
    8 to 12       all of it, one word after the other, anywhere in the row
    4 to 7        all of it, as a whole turn
    up to 3       never matched, and told as too short

All turns of a row are one text, so that a question followed by its answer is found across two turns.
"""

import json
import re
import unicodedata
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from typing import Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from poise.curate.benchmarks import BENCHMARKS, Item, load_benchmark, unknown_benchmark
from poise.curate.reason import Reason
from poise.curate.rows import Decisions, Rows, drops_of, example_of
from poise.curate.step import Judge
from poise.curate.texts import messages_of
from poise.examples import Document, Example, RankedAnswers

WHOLE_WORDS = 8
"""From so many words on, a text is looked for within turns; shorter ones are found in innocent sentences."""
TURN_WORDS = 4
"""From so many words on, a text is compared with whole turns; "What is it?" would be found in any data."""
ANCHOR_WORDS = 8
"""A row is looked at closely where it shares so many words with a benchmark, one after the other."""
SHOWN_CHARACTERS = 100
SAMPLES = 5

ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts that put no space between words; each character counts as one."""
WORD = re.compile(rf"[{ALONE}]|[^\W_{ALONE}]+")
DIGITS = re.compile(r"\d+")
ASCII_SPACES = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()})

Method = Literal["n-gram share", "whole item", "whole turn"]
State = Literal["n-gram share", "whole item", "whole turn", "allowed", "too short"]
STATES: tuple[State, ...] = get_args(State)
"""How an item is looked for or why it is not, the best first."""
Gram = tuple[str, ...]


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
        report = Report(self.matcher.states)
        drops: list[tuple[str, str, str, str]] = []
        for row, leaks in zip(told["id"].to_pylist(), told["leaks"].to_pylist(), strict=True):
            matches = [Match(**match) for match in json.loads(leaks)]
            report.add(row, matches)
            reason = matches[0].reason
            drops.append((row, reason.phrase, reason.evidence, ""))
        return Decisions(drops_of(drops), facts=report.facts())


@dataclass(frozen=True)
class Match:
    """An item that a row gives away."""

    benchmark: str
    item: str
    method: Method
    share: float
    """Of the item's n-grams; 1 for a whole item."""
    text: str
    """The benchmark's."""
    seen: str
    """The row's words, from where the first of them are found."""

    @property
    def reason(self) -> Reason:
        """Say it as the reason of a drop."""
        text = " ".join(self.text.split())[:SHOWN_CHARACTERS]
        return Reason(f"leaks {self.benchmark}", f"{self.item}, {self.method} {self.share:.2f}: {text}")


@dataclass(frozen=True)
class _Holder:
    """An item that a text gives away, and the questions that must be there too if the text is a passage."""

    item: Item
    text: str
    questions: tuple[str, ...] = ()


class Matcher:
    """An index of benchmark items; judges one row at a time, in any process.

    The first eight words of short texts, and every sixth 8-gram of long ones, are anchors: a row that shares a 13-gram
    with a text holds one of them. Only around anchors are the row's 13-grams hashed and looked up.

        text     w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 …
        anchors  -----------------------
                                   ---------------------------
        13-gram     ------------------------------------------
    """

    states: dict[str, dict[str, State]]
    """Benchmark -> item -> how it is looked for, or why it is not."""

    def __init__(
        self, items: Iterable[Item], *, ngram: int = 13, share: float = 0.5, allow: Iterable[str] = ()
    ) -> None:
        self.ngram, self.share = ngram, share
        allowed = [words_of(text) for text in allow]
        self._allowed = [f" {' '.join(words)} " for words in allowed]
        self._allowed_grams = np.concatenate(
            [_hashes(words, range(len(words) - ngram + 1), ngram) for words in ([], *allowed)]
        )
        self._anchors: set[Gram] = set()
        self._whole: dict[str, int] = {}
        self._turns: dict[str, int] = {}
        self._needles: list[str] = [""]
        self._holders: list[list[_Holder]] = [[]]
        self.states = {}
        self._index(list(items))

    def judge(self, example: Example) -> Reason | None:
        """Return the clearest of what a row gives away, or None."""
        matches = self.matches(example)
        return matches[0].reason if matches else None

    def matches(self, example: Example) -> list[Match]:
        """Return every item that a row gives away, the clearest first."""
        turns = [words_of(turn) for turn in _turns(example)]
        found: dict[int, tuple[Method, float, str]] = {}
        for turn in turns:
            if len(turn) < WHOLE_WORDS and (needle := self._turns.get(" ".join(turn))) is not None:
                found[needle] = "whole turn", 1.0, " ".join(turn)
        words = turns[0] if len(turns) == 1 else list(chain.from_iterable(turns))
        if not self._anchors.isdisjoint(_anchor_grams(words)):
            starts = [start for start, gram in enumerate(_anchor_grams(words)) if gram in self._anchors]
            found |= self._whole_items(words, starts)
            found |= self._shares(words, starts)
        return self._told(found, words) if found else []

    def _whole_items(self, words: list[str], starts: list[int]) -> dict[int, tuple[Method, float, str]]:
        found: dict[int, tuple[Method, float, str]] = {}
        for start in starts:
            for length in range(WHOLE_WORDS, self.ngram):
                seen = " ".join(words[start : start + length])
                needle = self._whole.get(seen)
                if needle is not None:
                    found[needle] = "whole item", 1.0, seen
        return found

    def _shares(self, words: list[str], starts: list[int]) -> dict[int, tuple[Method, float, str]]:
        """Count the n-grams around anchors that texts have too."""
        span, last = self.ngram - ANCHOR_WORDS, len(words) - self.ngram
        around = sorted({at for start in starts for at in range(max(0, start - span), min(start, last) + 1)})
        grams, first = np.unique(_hashes(words, around, self.ngram), return_index=True)
        left, right = (np.searchsorted(self._grams, grams, side) for side in ("left", "right"))
        counts = right - left
        if not counts.any():
            return {}
        owners = np.concatenate([self._owners[low:high] for low, high in zip(left, right, strict=True)])
        places = np.repeat(np.array(around)[first], counts)
        found: dict[int, tuple[Method, float, str]] = {}
        for needle, count in zip(*(column.tolist() for column in np.unique(owners, return_counts=True)), strict=True):
            share = count / self._sizes[needle]
            text = self._needles[needle].split()
            if share >= self.share and not (share < 1 and _has_other_numbers(text, words, self.ngram)):
                start = int(places[owners == needle].min())
                found[needle] = "n-gram share", share, " ".join(words[start : start + len(text)])
        return found

    def _told(self, found: Mapping[int, tuple[Method, float, str]], words: list[str]) -> list[Match]:
        row = f" {' '.join(words)} "
        matches: dict[tuple[str, str], Match] = {}
        for needle, (method, share, seen) in sorted(found.items(), key=lambda each: (-each[1][1], each[0])):
            for holder in self._holders[needle]:
                item = holder.item
                if holder.questions and not any(f" {question} " in row for question in holder.questions):
                    continue
                matches.setdefault(
                    (item.benchmark, item.id), Match(item.benchmark, item.id, method, share, holder.text, seen)
                )
        return list(matches.values())

    def _index(self, items: Sequence[Item]) -> None:
        """Give every text that is looked for a number, and note of every item how it is looked for."""
        common = _common_texts(items)
        wanted: dict[str, list[_Holder]] = {}
        for item in items:
            self._note(item, "too short")
            for needle, holder in _needles_of(item, common):
                if self._allows(*holder.questions):
                    self._note(item, "allowed")
                else:
                    wanted.setdefault(needle, []).append(holder)
        hashes: list[npt.NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        for needle, holders in wanted.items():
            state = self._add(needle, holders, hashes)
            for holder in holders:
                self._note(holder.item, state)
        joined = np.concatenate(hashes)
        order = np.argsort(joined, kind="stable")
        self._sizes = [len(each) for each in hashes]
        self._grams = joined[order]
        self._owners = np.repeat(np.arange(len(hashes), dtype=np.int32), self._sizes)[order]

    def _add(self, needle: str, holders: list[_Holder], hashes: list[npt.NDArray[np.uint64]]) -> State:
        """Index a text under the next number; its n-grams, without those that are allowed, go to `hashes`."""
        words = needle.split()
        state = _state(len(words), self.ngram)
        if state == "too short":
            return state
        if self._allows(needle):
            return "allowed"
        grams = np.setdiff1d(_hashes(words, range(len(words) - self.ngram + 1), self.ngram), self._allowed_grams)
        if state == "whole turn":
            self._turns[needle] = len(hashes)
        elif state == "whole item":
            self._whole[needle] = len(hashes)
            self._anchors.add(tuple(words[:ANCHOR_WORDS]))
        elif len(grams):
            self._anchors.update(list(_anchor_grams(words))[:: self.ngram - ANCHOR_WORDS + 1])
        else:
            return "allowed"
        hashes.append(grams)
        self._needles.append(needle)
        self._holders.append(holders)
        return state

    def _allows(self, *texts: str) -> bool:
        return any(f" {text} " in phrase for phrase in self._allowed for text in texts)

    def _note(self, item: Item, state: State) -> None:
        """Keep the best way in which an item is looked for."""
        states = self.states.setdefault(item.benchmark, {})
        states[item.id] = STATES[min(STATES.index(state), STATES.index(states.get(item.id, "too short")))]


class Report:
    """What was found of each benchmark; the same for any order of the rows.

    rows: those that leak it; one that leaks two benchmarks counts for both. items: which are leaked, with the number
    of rows. samples: the row's words beside the item's text.
    """

    def __init__(self, states: Mapping[str, Mapping[str, State]]) -> None:
        self.states = states
        self.rows: Counter[str] = Counter()
        self.items: dict[str, Counter[str]] = {benchmark: Counter() for benchmark in states}
        self.samples: dict[str, list[tuple[str, str, str, str]]] = {benchmark: [] for benchmark in states}
        """(row, item, row's words, item's text), of the first few rows by id."""

    def add(self, row: str, matches: Sequence[Match]) -> None:
        """Count the matches of a row, named by its id."""
        self.rows.update({match.benchmark for match in matches})
        for match in matches:
            self.items[match.benchmark][match.item] += 1
            insort(self.samples[match.benchmark], (row, match.item, match.seen, match.text))
            del self.samples[match.benchmark][SAMPLES:]

    def facts(self) -> dict[str, Any]:
        """Return it as JSON: by benchmark, also how many items could not be looked for, and which."""
        return {benchmark: self._facts(benchmark) for benchmark in self.states}

    def _facts(self, benchmark: str) -> dict[str, Any]:
        states = self.states[benchmark]
        names = ("row", "item", "seen", "text")
        return {
            "items": len(states),
            "looked for": dict(sorted(Counter(states.values()).items())),
            "too short": sorted(item for item, state in states.items() if state == "too short"),
            "rows": self.rows[benchmark],
            "leaked": dict(sorted(self.items[benchmark].items())),
            "samples": [dict(zip(names, sample, strict=True)) for sample in self.samples[benchmark]],
        }


@dataclass(frozen=True)
class _Told:
    """Gives the matches of whole columns as JSON, for the engine."""

    matcher: Matcher

    def __call__(self, kinds: list[str], contents: list[str]) -> list[str | None]:
        return [self._of(kind, content) for kind, content in zip(kinds, contents, strict=True)]

    def _of(self, kind: str, content: str) -> str | None:
        matches = self.matcher.matches(example_of(kind, content))
        return json.dumps([asdict(match) for match in matches]) if matches else None


def words_of(text: str) -> list[str]:
    """Return the words that are compared, without case and punctuation."""
    if text.isascii():
        return text.lower().translate(ASCII_SPACES).split()
    return WORD.findall(unicodedata.normalize("NFC", text).casefold())


def _turns(example: Example) -> list[str]:
    """Return all that is given and wanted, turn by turn; rejected answers are not learnt."""
    if isinstance(example, Document):
        return [example.text]
    messages = messages_of(example)
    if isinstance(example, RankedAnswers):  # all that share the best rank are learnt
        best = (
            answer for answer, rank in zip(example.answers, example.ranks, strict=True) if rank == min(example.ranks)
        )
        messages = (*example.prompt, *chain.from_iterable(best))
    return [message.content for message in messages]


def _needles_of(item: Item, common: Mapping[str, set[str]]) -> list[tuple[str, _Holder]]:
    """Return the texts to look for: of those that hold one another the shortest that tells the item from others.

    Choices without their question, such as "True, True" and "False, False", give nothing away: a text that holds a
    findable shorter one is left out.
    """
    if item.passage:
        questions = tuple(filter(None, (" ".join(words_of(text)) for text in item.texts)))
        passage = " ".join(words_of(item.passage))
        return [(passage, _Holder(item, item.texts[0], questions))] if questions else []
    needles: dict[str, _Holder] = {}
    for text in item.texts:
        needle = " ".join(words_of(text))
        held = any(f" {other} " in f" {needle} " for other in needles if other.count(" ") + 1 >= WHOLE_WORDS)
        unclear = needle in common[item.benchmark] and text is not item.texts[-1]
        if not held and not unclear:
            needles.setdefault(needle, _Holder(item, text))
    return list(needles.items())


def _common_texts(items: Iterable[Item]) -> dict[str, set[str]]:
    """Return, by benchmark, the texts that several different items have, such as "Which of these is true?"."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for benchmark, texts in dict.fromkeys((item.benchmark, item.texts) for item in items if not item.passage):
        counts[benchmark].update({" ".join(words_of(text)) for text in texts})
    shared = {name: {text for text, count in found.items() if count > 1} for name, found in counts.items()}
    return defaultdict(set, shared)


def _state(words: int, ngram: int) -> State:
    if words >= ngram:
        return "n-gram share"
    return "whole item" if words >= WHOLE_WORDS else "whole turn" if words >= TURN_WORDS else "too short"


def _anchor_grams(words: Sequence[str]) -> Iterator[Gram]:
    return zip(*(words[start:] for start in range(ANCHOR_WORDS)), strict=False)


def _grams(words: Sequence[str], size: int) -> list[Gram]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def _hashes(words: Sequence[str], starts: Iterable[int], size: int) -> npt.NDArray[np.uint64]:
    """Hash n-grams to (starts,) uint64; Python's own hash differs between processes."""
    texts = (" ".join(words[start : start + size]).encode("utf-8", "surrogatepass") for start in starts)
    return np.frombuffer(b"".join(blake2b(text, digest_size=8).digest() for text in texts), np.uint64)


def _has_other_numbers(text: Sequence[str], row: Sequence[str], size: int) -> bool:
    """Tell whether the row says another number where the text says its own: a question of the same template.

    It does if an n-gram is found only once every number is written as 0. A number at the edge of an n-gram may be a
    part of one, as in 1,310, so only the edges of the text count.
    """
    plain = [[DIGITS.sub("0", word) for word in words] for words in (text, row)]
    exact, wiped = set(_grams(row, size)), set(_grams(plain[1], size))
    last = len(text) - size
    for at, (gram, form) in enumerate(zip(_grams(text, size), _grams(plain[0], size), strict=True)):
        is_cut = (form[0] == "0" and at > 0) or (form[-1] == "0" and at < last)
        if not is_cut and form in wiped and gram not in exact:
            return True
    return False
