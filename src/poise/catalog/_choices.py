"""Multiple choice as every dataset here writes it: the question, choices as lines `A. text`, the answer `B. text`."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase as LETTERS
from typing import Any

from poise.examples import Conversation, Message
from poise.sources.dataset import SourceRow
from poise.sources.refusal import NothingToLearn, RowError

LETTER_ONLY = "Answer with the letter of the right choice and nothing else."
HELD_BACK = ("", -1)
"""What stands where an answer should, in the test splits of benchmarks with a leaderboard."""


def ask(question: str, texts: Sequence[str], right: int, *, letter_only: bool = False) -> Conversation:
    """Show every choice on a line of its own; answer with the line of the right one or, asking for it, its letter."""
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False)]
    shown = "\n".join([question, *lines])
    _refuse_empty(texts, right)
    if letter_only:
        return _exchange(f"{shown}\n\n{LETTER_ONLY}", LETTERS[right])
    return _exchange(shown, lines[right])


def ask_labelled(row: SourceRow, question: str, letter_only: float) -> Conversation:
    """Ask what stands in the column `question` of a row with labelled `choices` and an `answerKey`."""
    labels, texts = labels_and_texts(row["choices"], "choices")
    right = right_choice(row["answerKey"], labels, "answerKey")
    return ask(row[question], texts, right, letter_only=row.chance.random() < letter_only)


def ask_bare(question: str, texts: Sequence[str], right: int) -> Conversation:
    """Show no choices; answer with the text of the right one."""
    _refuse_empty(texts, right)
    return _exchange(question, texts[right])


def right_choice(key: object, keys: Sequence[object], column: str) -> int:
    """Return which choice a dataset means by `key`, where it calls them `keys` in their order."""
    if key in HELD_BACK:
        raise NothingToLearn("no answer", column)
    if key not in keys:
        raise RowError(
            "unknown answer key",
            f" {column}",
            f"the answer is {key!r}, but the choices are {', '.join(map(repr, keys)) or 'none'}",
            "which choice is right cannot be guessed",
            "correct the row or leave it out",
        )
    return keys.index(key)


def labels_and_texts(choices: Mapping[str, Any], column: str) -> tuple[list[str], list[str]]:
    """Return the labels of choices, each once, and their texts; only the order of the labels is of use."""
    labels, texts = choices["label"], choices["text"]
    if not len(set(labels)) == len(labels) == len(texts):
        raise RowError(
            "malformed choices",
            f" {column}",
            f"the labels are {', '.join(map(repr, labels)) or 'none'} for {len(texts)} texts",
            "which text belongs to the answer cannot be guessed",
            "give every text one label of its own, or leave the row out",
        )
    return labels, texts


def _exchange(question: str, answer: str) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer)))


def _refuse_empty(texts: Sequence[str], right: int) -> None:
    if not texts[right].strip():
        raise NothingToLearn("empty completion", f"choice {LETTERS[right]}")
