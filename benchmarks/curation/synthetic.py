"""Rows with planted copies: what every curation benchmark is measured on.

    texts, kinds, originals = planted(100_000, seed=0)

Of all rows 79 % are originals, 3 % distractors (an original with 35-55 % of its words edited) and 18 % copies: 45 % of
these exact, 10 % with other case or spacing, 45 % near (2-8 % of the words edited). Texts have 12 words or more,
median 41, of 5,000 made-up words with Zipf's frequencies. An edit replaces the word. Rows are shuffled.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHARES = {"original": 0.79, "distractor": 0.03, "exact": 0.081, "variant": 0.018, "near": 0.081}
EDITED = {"distractor": (0.35, 0.55), "near": (0.02, 0.08)}
MEDIAN_WORDS, LEAST_WORDS, MOST_WORDS = 41, 12, 600
VOCABULARY = 5_000
SYLLABLES = [onset + vowel for onset in (*"bdfgklmnprstvz", "ch", "sh", "tr", "st") for vowel in "aeiou"]


class Planted(NamedTuple):
    """Texts and, for each, what it is and the row of its original (an original's own row)."""

    texts: list[str]
    kinds: list[str]
    originals: NDArray[np.int64]


def planted(rows: int, seed: int = 0) -> Planted:
    """Make `rows` texts; the same for one seed."""
    chance = np.random.default_rng(seed)
    counts = {kind: round(share * rows) for kind, share in SHARES.items() if kind != "original"}
    first = rows - sum(counts.values())
    vocabulary = np.array(made_up_words(chance))
    lengths = np.exp(chance.normal(np.log(MEDIAN_WORDS), 0.5, first)).round().astype(int)
    lengths = lengths.clip(LEAST_WORDS, MOST_WORDS)
    ids = np.split(_drawn(int(lengths.sum()), chance), np.cumsum(lengths)[:-1])
    texts = [" ".join(vocabulary[each]) for each in ids]
    kinds, originals = ["original"] * first, list(range(first))
    for kind, count in counts.items():
        for original in chance.integers(0, first, count).tolist():
            kinds.append(kind)
            originals.append(original)
            texts.append(_copy(kind, ids[original], texts[original], vocabulary, chance))
    order = chance.permutation(rows)
    place = np.empty(rows, np.int64)
    place[order] = np.arange(rows)
    return Planted([texts[row] for row in order], [kinds[row] for row in order], place[np.array(originals)[order]])


def made_up_words(chance: np.random.Generator) -> list[str]:
    """Return VOCABULARY different words of one to five syllables, the shortest first, as the most frequent are."""
    found: dict[str, None] = {}
    for drawn in _syllables(chance):
        found.setdefault(drawn)
        if len(found) == VOCABULARY:
            return sorted(found, key=len)
    return []


def _syllables(chance: np.random.Generator) -> Iterator[str]:
    while True:
        sizes = chance.choice([1, 2, 3, 4, 5], p=[0.05, 0.3, 0.4, 0.2, 0.05], size=10_000)
        for drawn in np.split(chance.integers(0, len(SYLLABLES), sizes.sum()), np.cumsum(sizes)[:-1]):
            yield "".join(SYLLABLES[index] for index in drawn)


def _drawn(count: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """Draw words by Zipf's law."""
    weights = 1 / (np.arange(VOCABULARY) + 2.7)
    return np.searchsorted(np.cumsum(weights / weights.sum()), chance.random(count)).clip(0, VOCABULARY - 1)


def _copy(
    kind: str, ids: NDArray[np.int64], text: str, vocabulary: NDArray[np.str_], chance: np.random.Generator
) -> str:
    if kind == "exact":
        return text
    if kind == "variant":
        return text.upper() if chance.random() < 0.5 else text.replace(" ", "  ")
    edits = max(1, round(chance.uniform(*EDITED[kind]) * len(ids)))
    edited = ids.copy()
    edited[chance.choice(len(ids), edits, replace=False)] = _drawn(edits, chance)
    return " ".join(vocabulary[edited])
