"""What can be wrong with an answer whatever it was asked: empty, repeating, never-ending, cut off."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

FLAGS = ("empty", "repeating", "never-ending", "truncated")
TAIL = 600
"""Characters at the end in which a loop is looked for."""
LOOP = re.compile(r"(.{1,150}?)\1{3,}.{0,149}\Z", re.DOTALL)
LEAST_LOOP = 24
"""Characters: `ha ha ha ha` is a laugh."""
LEAST_WORDS, REPEATED_SHARE = 40, 0.5


def flags(text: str, stopped: bool) -> tuple[str, ...]:
    """Name what is wrong with an answer.

    `repeating` says the same again, and stopped; `never-ending` runs in a circle until the limit; `truncated` reached
    the limit with something to say.
    """
    if not text.strip():
        return ("empty",) if stopped else ("empty", "never-ending")
    loops = _ends_in_a_loop(text)
    if not stopped:
        return ("never-ending",) if loops else ("truncated",)
    return ("repeating",) if loops or _says_it_again(text) else ()


def counted(answers: Iterable[tuple[str, bool]]) -> dict[str, int]:
    """Count each flag over (text, stopped) pairs."""
    found = Counter(flag for text, stopped in answers for flag in flags(text, stopped))
    return {flag: found[flag] for flag in FLAGS}


def repeated_answers(texts: Sequence[str]) -> int:
    """Count the answers that equal another one: one text for every question can deceive a judge (arXiv 2410.07137)."""
    said: Counter[Any] = Counter(text.strip() for text in texts)
    return sum(times for text, times in said.items() if times > 1 and text)


def _ends_in_a_loop(text: str) -> bool:
    found = LOOP.search(text[-TAIL:])
    return found is not None and len(found[0]) >= LEAST_LOOP


def _says_it_again(text: str) -> bool:
    """Whether at least half of the runs of four words stood there before."""
    words = text.split()
    if len(words) < LEAST_WORDS:
        return False
    runs = [tuple(words[start : start + 4]) for start in range(len(words) - 3)]
    return 1 - len(set(runs)) / len(runs) >= REPEATED_SHARE
