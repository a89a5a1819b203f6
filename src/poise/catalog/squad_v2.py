"""SQuAD 2.0: questions about a passage, some without an answer in it (Rajpurkar et al. 2018, arXiv:1806.03822).

The train split, where about a third has none.

https://huggingface.co/datasets/rajpurkar/squad_v2

    {"id": "56be85543aeaaa14008c9063", "title": "Beyoncé", "context": "Beyoncé Giselle Knowles-Carter (/biːˈjɒnseɪ/ …",
     "question": "When did Beyonce start becoming popular?",
     "answers": {"text": ["in the late 1990s"], "answer_start": [269]}}
"""

from typing import Literal

from poise.examples import Conversation, Message
from poise.sources.dataset import About, SourceRow
from poise.sources.refusal import NothingToLearn

ABOUT = About(
    hub="rajpurkar/squad_v2",
    columns={"context": str, "question": str, "answers": {"text": [str]}},
    licence="cc-by-sa-4.0",
    confidence=3,
)
UNANSWERABLE = (
    "I don't know.",
    "The passage does not say.",
    "This cannot be answered from the passage.",
    "There is no answer to this in the text.",
    "Not enough information.",
)


def read(row: SourceRow, *, only: Literal["answerable", "unanswerable"] | None = None) -> Conversation:
    """Ask for words of the passage, or for the phrase that the instruction names where the passage has no answer.

    Two entries with `only` and a `count` each set how many of either kind there are.
    """
    kind = "answerable" if row["answers"]["text"] else "unanswerable"
    if only is not None and kind != only:
        raise NothingToLearn(f"{kind} question")
    phrase = row.chance.choice(UNANSWERABLE)
    instruction = (
        "Answer the question with words taken from the passage. "
        f"If the passage does not hold the answer, reply with exactly this: {phrase}"
    )
    answer = (row["answers"]["text"] or [phrase])[0]
    if not answer.strip():
        raise NothingToLearn("empty completion", "answers.text")
    asked = f"{instruction}\n\n{row['context']}\n\n{row['question']}"
    return Conversation((Message("user", asked), Message("assistant", answer)))
