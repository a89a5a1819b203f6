"""Questions asked of every model of a run, so that before and after can be laid side by side.

One JSON object per line:

    {"id": "fact-3", "set": "facts", "prompt": "What is the capital of Arduia?", "expected": "Mirtport"}

`prompt` is a string (a user turn) or a list of messages; `text` instead of it is continued as it stands. `expected` is
a word or phrase, or a list of which any one will do; without it the answer is shown but not scored.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from poise.errors import DataError, Problem, list_problems
from poise.examples import Conversation, Document, Example, Message, PreferencePair


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
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                questions.append(_question(json.loads(line), number))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
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
    return questions


def questions_from(examples: Sequence[Example], count: int) -> list[Question]:
    """Take the prompts of `count` Examples, chosen by content id so that the choice does not depend on order."""
    chosen = sorted(examples, key=lambda example: example.id)
    questions: dict[tuple[Any, ...], Question] = {}
    for example in chosen:
        question = _ask(example)
        if question is not None:
            questions.setdefault((question.prompt, question.text), question)
        if len(questions) == count:
            break
    return list(questions.values())


def _ask(example: Example) -> Question | None:
    if isinstance(example, Document):
        return Question(example.id, "sample", text=" ".join(example.text.split(" ")[:12]))
    if isinstance(example, PreferencePair):
        return Question(example.id, "sample", example.prompt)
    if isinstance(example, Conversation):
        roles = [message.role for message in example.messages]
        return Question(example.id, "sample", example.messages[: roles.index("assistant")])
    return None


def _question(row: dict[str, Any], number: int) -> Question:
    prompt, expected = row.get("prompt", ()), row.get("expected") or ()
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if not prompt and not row.get("text"):
        raise ValueError("neither prompt nor text")
    return Question(
        id=str(row.get("id", number)),
        set=str(row.get("set", "questions")),
        prompt=tuple(Message(message["role"], message["content"]) for message in cast("list[Any]", prompt)),
        text=str(row.get("text", "")),
        expected=(expected,) if isinstance(expected, str) else tuple(expected),
    )
