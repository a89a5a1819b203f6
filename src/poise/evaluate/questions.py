"""Questions asked of every model of a run, so that before and after can be laid side by side.

One JSON object per line:

    {"id": "fact-3", "set": "facts", "prompt": "What is the capital of Arduia?", "expected": "Mirtport"}

`prompt` is a string (a user turn) or a list of messages; `text` instead of it is continued as it stands. `expected` is
a word or phrase, or a list of which any one will do; without it the answer is shown but not scored.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from poise.errors import DataError, Problem, list_problems
from poise.examples import (
    Document,
    Example,
    LabeledConversation,
    Message,
    PreferencePair,
    RankedAnswers,
    Role,
)


@dataclass(frozen=True)
class Question:
    """What is asked, and what a right answer holds."""

    id: str
    set: str
    prompt: tuple[Message, ...] = ()
    text: str = ""
    """Continued as it stands where there is no prompt."""
    expected: tuple[str, ...] = ()

    def score(self, answer: str) -> float | None:
        """1.0 where an expected phrase stands in the answer as whole words, else 0.0; None where none is known."""
        if not self.expected:
            return None
        return float(any(re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", answer, re.I) for phrase in self.expected))


def load_questions(path: Path) -> list[Question]:
    """Read a question file; every broken line is named."""
    if not path.is_file():
        raise DataError(f"there is no question file {path}\n    to do:  check `questions` in the recipe")
    questions: list[Question] = []
    problems: list[Problem] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            try:
                questions.append(_question(json.loads(line), number))
            except (ValueError, RecursionError) as error:
                problems.append(
                    Problem(
                        f"{path.name}:{number}",
                        f"not a question ({error})",
                        "it could not be asked",
                        'write {"id": …, "set": …, "prompt": …, "expected": …}',
                    )
                )
    if problems:
        raise DataError(list_problems(problems))
    if not questions:
        raise DataError(f"{path} holds no question\n    to do:  write some, or remove `questions` from the recipe")
    return questions


def questions_from(
    examples: Iterable[Example], count: int, can_be_asked: Callable[[Example], bool] = lambda example: True
) -> list[Question]:
    """Take the prompts of `count` Examples, chosen by content id so that the choice does not depend on order."""
    questions: dict[tuple[Any, ...], Question] = {}
    for example in sorted(examples, key=lambda example: example.id):
        if len(questions) >= count:
            break
        question = _ask(example)
        if can_be_asked(example):
            questions.setdefault((question.prompt, question.text), question)
    return list(questions.values())


def questions_of_samples(samples: Iterable[dict[str, Any]]) -> list[Question]:
    """Return the unscored questions that a run has kept in samples.jsonl."""
    questions: list[Question] = []
    for sample in samples:
        turns = sample["prompt"]
        if turns[0]["role"] == "text":
            questions.append(Question(sample["id"], sample["set"], text=turns[0]["content"]))
        else:
            questions.append(Question(sample["id"], sample["set"], tuple(_message(turn) for turn in turns)))
    return questions


def _ask(example: Example) -> Question:
    if isinstance(example, Document):
        return Question(example.id, "sample", text=" ".join(example.text.split(" ")[:12]))
    if isinstance(example, PreferencePair | LabeledConversation | RankedAnswers):
        return Question(example.id, "sample", example.prompt)
    roles = [message.role for message in example.messages]
    return Question(example.id, "sample", example.messages[: roles.index("assistant")])


def _question(row: Any, number: int) -> Question:
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    prompt, text = row.get("prompt") or [], row.get("text") or ""
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list) or not isinstance(text, str):
        raise ValueError("prompt is a text or a list of turns, text is a text")
    if not prompt and not text:
        raise ValueError("neither prompt nor text")
    return Question(
        id=str(row.get("id", number)),
        set=str(row.get("set", "questions")),
        prompt=tuple(_message(turn) for turn in prompt),
        text=text,
        expected=_phrases(row.get("expected")),
    )


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict) or turn.get("role") not in get_args(Role) or not isinstance(turn.get("content"), str):
        raise ValueError(f"a turn of the prompt has a role ({', '.join(get_args(Role))}) and a text as content")
    return Message(turn["role"], turn["content"])


def _phrases(expected: Any) -> tuple[str, ...]:
    """Read one phrase or several; a number stands for how it is written."""
    phrases = expected if isinstance(expected, list) else [] if expected in (None, "") else [expected]
    if not all(isinstance(phrase, str | int | float) and str(phrase).strip() for phrase in phrases):
        raise ValueError("expected is a word or phrase, or a list of them")
    return tuple(str(phrase) for phrase in phrases)
