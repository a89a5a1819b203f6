"""Calibration: what a threshold means to a model, on edits that are known."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poise.curate.encoder import Encode, checked
from poise.curate.neighbours import unit
from poise.curate.vectors import digest

EDITS = {"2 % of words": 0.02, "5 % of words": 0.05, "10 % of words": 0.1, "20 % of words": 0.2}
NUMBERS = "every number"


@dataclass(frozen=True)
class Calibration:
    """How near a model puts texts that were edited in one way."""

    edit: str
    texts: int
    median: float
    share: float
    """Of the texts, how many are at or above the threshold."""


def calibrated(encode: Encode, texts: Sequence[str], threshold: float, *, seed: int = 0) -> list[Calibration]:
    """Show what a threshold means to a model, on edits that are known: words replaced, every number changed."""
    originals = dict(zip(texts, unit(checked(encode(list(texts)))), strict=True)) if texts else {}
    vocabulary = sorted({word for text in texts for word in text.split()})
    edited = {
        name: [(text, _replaced(text, share, vocabulary, _chance(seed, text))) for text in texts if text.split()]
        for name, share in EDITS.items()
    }
    edited[NUMBERS] = [(text, _renumbered(text, _chance(seed, text))) for text in texts if re.search(r"\d", text)]
    return [_calibration(name, pairs, originals, encode, threshold) for name, pairs in edited.items() if pairs]


def _calibration(
    edit: str, pairs: list[tuple[str, str]], originals: dict[str, Any], encode: Encode, threshold: float
) -> Calibration:
    edited = unit(checked(encode([after for _, after in pairs])))
    cosines = np.array([originals[before] @ vector for (before, _), vector in zip(pairs, edited, strict=True)])
    share = float((cosines >= threshold).mean())
    return Calibration(edit, len(pairs), float(np.median(cosines)), share)


def _chance(seed: int, text: str) -> random.Random:
    return random.Random(f"{seed} {digest(text)}")


def _replaced(text: str, share: float, vocabulary: list[str], chance: random.Random) -> str:
    """Replace a share of the words, at least one, by others of the texts."""
    parts = text.split()
    for place in chance.sample(range(len(parts)), max(1, round(share * len(parts)))):
        parts[place] = chance.choice(vocabulary)
    return " ".join(parts)


def _renumbered(text: str, chance: random.Random) -> str:
    """Change every digit into another one; a number keeps its length."""
    return re.sub(r"[0-9]", lambda digit: str((int(digit[0]) + chance.randint(1, 9)) % 10), text)
