"""Battles: two answers to one question, left and right; which models meet, in which order, on which side.

question   round 1   round 2   round 3        three models: every question meets every two of them, in rounds
q7         A : B     C : A     B : C          the order of questions and the sides are drawn by hash of seed and
q2         C : A     C : B     B : A          prompt, so that a restart shows the same and a part is a fair sample
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from poise.arena.contestants import key_of
from poise.evaluate.journal import content_key
from poise.evaluate.questions import Question


@dataclass(frozen=True)
class Battle:
    """What is put to the vote."""

    id: str
    """By the question and who meets, whatever the side and the seed; it tells neither."""
    question: Question
    left: str
    right: str
    """Labels."""
    again: bool = False
    """Whether it was shown before, the sides changed, to see whether the verdict holds."""


def schedule(questions: Sequence[Question], labels: Sequence[str], seed: int, again: int = 0) -> list[Battle]:
    """Return the battles in their order; after the first round, `again` of it a second time with the sides changed."""
    distinct = {key_of(question): question for question in questions}
    order = sorted(distinct.values(), key=lambda question: _draw(seed, "order", key_of(question)))
    pairs = list(combinations(sorted(labels), 2))
    rounds = [
        [battle(question, *pairs[(place + turn) % len(pairs)], seed) for place, question in enumerate(order)]
        for turn in range(len(pairs))
    ]
    repeated = sorted(rounds[0], key=lambda each: _draw(seed, "again", each.id))[:again]
    return [*rounds[0], *map(shown_again, repeated), *(each for later in rounds[1:] for each in later)]


def battle(question: Question, one: str, other: str, seed: int) -> Battle:
    """Make a battle, the sides drawn."""
    one, other = sorted((one, other))
    key = content_key([key_of(question), one, other])
    left, right = (one, other) if _draw(seed, "side", key) % 2 else (other, one)
    return Battle(key[:16], question, left, right)


def shown_again(first: Battle) -> Battle:
    """Return a battle a second time, the sides changed."""
    return replace(first, id=content_key([first.id, "again"])[:16], left=first.right, right=first.left, again=True)


def _draw(seed: int, purpose: str, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose} {key}".encode()).digest()[:8])
