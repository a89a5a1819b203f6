r"""APPS: programming problems with Python solutions (Hendrycks et al. 2021, arXiv:2105.09938), the train split.

https://huggingface.co/datasets/codeparrot/apps

    {"problem_id": 0, "question": "Polycarp has $n$ different binary words. …", "difficulty": "interview", …,
     "solutions": "[\"for _ in range(int(input())):\\n    n = int(input())\\n …\", \"k = int(input())\\n …\"]"}

The published repository is a loading script, which `datasets` 4 refuses, so its data file is named here.
"""

import json

from poise.examples import Conversation, Message
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow
from poise.sources.refusal import NothingToLearn, RowError
from poise.sources.turns import list_in, text_in

ABOUT = About(
    hub="codeparrot/apps",
    columns={"question": str, "solutions": str},
    files=("train.jsonl",),
    licence="mit",
    confidence=2,
)


def read(row: SourceRow) -> Conversation:
    """Ask for a Python program; the first of the listed solutions is the answer."""
    asked = f"Solve this problem with a Python program:\n\n{row['question']}"
    return conversation((Message("user", asked), Message("assistant", _first(row["solutions"]))), "solutions")


def _first(solutions: str) -> str:
    """Return the first text of a JSON list; a problem without solutions has empty text or an empty list."""
    try:
        listed = list_in({"solutions": json.loads(solutions or "[]")}, "solutions")
    except json.JSONDecodeError as error:
        raise RowError(
            "not JSON",
            " solutions",
            f"no JSON: {error.msg} at character {error.pos + 1}",
            "the solutions are published as a JSON list inside a text, and the first of them is the answer",
            'write a list of programs, `["print(1)"]`, as text',
        ) from None
    if not listed:
        raise NothingToLearn("no solution", "solutions")
    return text_in({"solutions[0]": listed[0]}, "solutions[0]")
