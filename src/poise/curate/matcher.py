"""Match rows with a benchmark's items: which of them a row gives away, and how much of each it holds.

Rows and benchmark texts are compared as words: NFC, no case, no punctuation. How much of a text must be found depends
on how many words it has:

    13 and more   the share of its 13-grams that the row holds (Brown et al. 2020, arXiv:2005.14165, appendix C)
    8 to 12       all of it, one word after the other, anywhere in the row
    4 to 7        all of it, as a whole turn
    up to 3       never matched, and told as too short

All turns of a row are one text, so that a question followed by its answer is found across two turns.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from poise.curate.benchmarks import Item
from poise.curate.reason import Reason
from poise.curate.texts import messages_of
from poise.examples import Document, Example, RankedAnswers

WHOLE_WORDS = 8
"""From so many words on, a text is looked for within turns; shorter ones are found in innocent sentences."""
TURN_WORDS = 4
"""From so many words on, a text is compared with whole turns; "What is it?" would be found in any data."""
ANCHOR_WORDS = 8
"""A row is looked at closely where it shares so many words with a benchmark, one after the other."""
SHOWN_CHARACTERS = 100

ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts that put no space between words; each character counts as one."""
WORD = re.compile(rf"[{ALONE}]|[^\W_{ALONE}]+")
DIGITS = re.compile(r"\d+")
ASCII_SPACES = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()})

Method = Literal["n-gram share", "whole item", "whole turn", "cosine"]
State = Literal["n-gram share", "whole item", "whole turn", "allowed", "too short"]
STATES: tuple[State, ...] = get_args(State)
"""How an item is looked for or why it is not, the best first."""
Gram = tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """An item that a row gives away."""

    benchmark: str
    item: str
    method: Method
    share: float
    """Of the item's n-grams; 1 for a whole item; or the cosine."""
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
        turns = [words_of(turn) for turn in turns_of(example)]
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
        common = common_texts(items)
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


def words_of(text: str) -> list[str]:
    """Return the words that are compared, without case and punctuation."""
    if text.isascii():
        return text.lower().translate(ASCII_SPACES).split()
    return WORD.findall(unicodedata.normalize("NFC", text).casefold())


def turns_of(example: Example) -> list[str]:
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


def common_texts(items: Iterable[Item]) -> dict[str, set[str]]:
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
