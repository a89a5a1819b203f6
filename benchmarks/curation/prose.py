"""Made-up prose, quickly: texts of sentences drawn from a pool, so that two texts share a sentence by chance only.

A pool of 200,000 sentences of 6 to 24 words is written once from 50,000 made-up words with Zipf's frequencies. A text
is a sentence of its own, which keeps short ones apart, and as many of the pool as its length needs, log-normal around
a median.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.synthetic import VOCABULARY, made_up_words

SENTENCES = 200_000
SHORTEST, LONGEST = 6, 24
MEAN_WORDS = (SHORTEST + LONGEST) / 2
SIGMA = 0.7
"""Spread of the log of a text's length."""
MOST_SENTENCES = 400


class Prose:
    """A source of texts; the same calls give the same texts for one seed."""

    def __init__(self, seed: int, sentences: int = SENTENCES) -> None:
        self.chance = np.random.default_rng(seed)
        self._words: NDArray[Any] = np.array(made_up_words(self.chance), dtype=object)
        weights = 1 / (np.arange(VOCABULARY) + 2.7)
        self._cumulative = np.cumsum(weights / weights.sum())
        self._pool: NDArray[Any] = np.array(self._sentences(sentences), dtype=object)

    def words(self, count: int) -> list[str]:
        """Draw single words."""
        drawn = np.searchsorted(self._cumulative, self.chance.random(count)).clip(0, VOCABULARY - 1)
        return self._words[drawn].tolist()

    def phrases(self, count: int, shortest: int, longest: int) -> list[str]:
        """Draw phrases of a few words, without a full stop."""
        return _joined(self.words, self.chance.integers(shortest, longest + 1, count))

    def texts(self, count: int, median_words: float) -> list[str]:
        """Draw texts of whole sentences."""
        drawn = self.chance.lognormal(np.log(median_words), SIGMA, count)
        sizes = (drawn / MEAN_WORDS - 1).round().astype(np.int64).clip(0, MOST_SENTENCES)
        rest = _joined(lambda total: self._pool[self.chance.integers(0, len(self._pool), total)].tolist(), sizes)
        return [f"{own} {more}".rstrip() for own, more in zip(self._sentences(count), rest, strict=True)]

    def edited(self, text: str, share: float) -> str:
        """Replace a share of the words, at least one."""
        words = text.split(" ")
        places = self.chance.choice(len(words), max(1, round(share * len(words))), replace=False)
        for place, word in zip(places.tolist(), self.words(len(places)), strict=True):
            words[place] = word
        return " ".join(words)

    def _sentences(self, count: int) -> list[str]:
        return [f"{words.capitalize()}." for words in self.phrases(count, SHORTEST, LONGEST)]


def _joined(draw: Any, sizes: NDArray[np.int64]) -> list[str]:
    """Draw all parts at once and join as many as each text has."""
    parts = draw(int(sizes.sum()))
    ends = np.cumsum(sizes).tolist()
    return [" ".join(parts[end - size : end]) for size, end in zip(sizes.tolist(), ends, strict=True)]
