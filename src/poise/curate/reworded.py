"""Reworded leaks: turns that a sentence encoder puts near a benchmark's item, however few words they share.

    items ──forms──> texts ──embedded──> (forms, dimensions)
    turns ─────────────────embedded──> (turns, dimensions) ──across──> cosine >= threshold, every one of them

The small side is the index and is searched exactly, with no limit on neighbours: of several near items the nearest may
be one that does not count. A cosine says little of numbers and code, so a turn with others is no leak; nor is one more
than twice as long or short, of which an encoder may have read the beginning alone.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poise.curate.benchmarks import Item
from poise.curate.encoder import Encoder
from poise.curate.marks import marks
from poise.curate.matcher import TURN_WORDS, Match, Matcher, common_texts, turns_of, words_of
from poise.curate.neighbours import across
from poise.curate.vectors import embedded
from poise.examples import Document, Example

LONGER = 2
"""How many times as long one of two texts may be."""
PARAGRAPHS = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Form:
    """One text that gives an item away."""

    item: Item
    text: str


def forms(items: Sequence[Item], matcher: Matcher) -> list[Form]:
    """Return the texts to look for: those of items that words are looked for too, about passages with the passage.

    A question that several items share, such as "Which of these is true?", tells none of them from the others.
    """
    common = common_texts(items)
    found: list[Form] = []
    for item in items:
        if matcher.states[item.benchmark][item.id] in ("allowed", "too short"):
            continue
        for text in item.texts:
            words = words_of(text)
            shared = " ".join(words) in common[item.benchmark] and text is not item.texts[-1]
            if item.passage:
                found.append(Form(item, f"{item.passage}\n\n{text}"))
            elif len(words) >= TURN_WORDS and not shared:
                found.append(Form(item, text))
    return found


def comparable(example: Example) -> list[str]:
    """Return what of a row is compared: every turn that is given or wanted, every paragraph of a document."""
    turns = turns_of(example)
    if isinstance(example, Document):
        turns = PARAGRAPHS.split(turns[0])
    return [turn for turn in turns if len(words_of(turn)) >= TURN_WORDS]


def reworded(
    turns: Iterable[tuple[str, Sequence[str]]],
    looked_for: Sequence[Form],
    encoder: Encoder,
    threshold: float,
    *,
    guard: bool = True,
    cache: Path | None = None,
) -> dict[str, list[Match]]:
    """Return for each row (id, turns) that is near an item every such item, the nearest first."""
    owners: list[str] = []
    texts: list[str] = []
    for row, listed in turns:
        owners += [row] * len(listed)
        texts += listed
    if not texts or not looked_for:
        return {}
    vectors, of_turn = embedded(texts, encoder, cache)
    indexed, of_form = embedded([form.text for form in looked_for], encoder, cache)
    nearest: defaultdict[str, dict[tuple[str, str], Match]] = defaultdict(dict)
    turns_at, forms_at = _places(of_turn, len(vectors)), _places(of_form, len(indexed))
    for pairs, cosines in across(vectors, indexed, threshold):
        for (one, other), cosine in zip(pairs.tolist(), cosines.tolist(), strict=True):
            turn = texts[turns_at[one][0]]
            for form in (looked_for[place] for place in forms_at[other]):
                if not _may_be_one(turn, form.text, guard):
                    continue
                match = _match(form, turn, cosine)
                for owner in {owners[place] for place in turns_at[one]}:
                    before = nearest[owner].get((match.benchmark, match.item))
                    if before is None or before.share < cosine:
                        nearest[owner][match.benchmark, match.item] = match
    return {
        row: sorted(found.values(), key=lambda match: (-match.share, match.benchmark, match.item))
        for row, found in nearest.items()
    }


def _may_be_one(turn: str, text: str, guard: bool) -> bool:
    shorter, longer = sorted((len(turn), len(text)))
    return longer <= LONGER * shorter and not (guard and marks(turn) != marks(text))


def _match(form: Form, turn: str, cosine: float) -> Match:
    seen = " ".join(words_of(turn)[: LONGER * len(words_of(form.text))])
    return Match(form.item.benchmark, form.item.id, "cosine", cosine, form.text, seen)


def _places(which: np.ndarray, count: int) -> list[list[int]]:
    """Return for each distinct text where it stands."""
    places: list[list[int]] = [[] for _ in range(count)]
    for place, own in enumerate(which.tolist()):
        places[own].append(place)
    return places
