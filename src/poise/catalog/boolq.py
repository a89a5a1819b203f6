"""BoolQ: yes/no questions about a passage (Clark et al. 2019, arXiv:1905.10044), the train split.

https://huggingface.co/datasets/google/boolq

    {"question": "do iran and afghanistan speak the same language", "answer": true, "passage": "Persian, also known …"}
"""

from poise.examples import Conversation, Message
from poise.sources.dataset import About, SourceRow

ABOUT = About(
    hub="google/boolq",
    columns={"question": str, "answer": bool, "passage": str},
    licence="cc-by-sa-3.0",
    confidence=3,
)


def read(row: SourceRow) -> Conversation:
    """Ask for the passage to be read and the question to be answered with `true` or `false`."""
    instruction = "In the context below, is the statement that follows true or false? Read the passage, then answer."
    asked = f"{instruction}\n\n{row['passage']}\n\nTrue or false - {row['question']}?"
    answer = "true" if row["answer"] else "false"
    return Conversation((Message("user", asked), Message("assistant", answer)))
