"""Tested 22k Python Alpaca: Python tasks whose programs were run and finished without an error.

https://huggingface.co/datasets/Vezora/Tested-22k-Python-Alpaca

    {"instruction": "Write a function that sorts a list.", "input": "[3, 1, 2]", "output": "def sort_list(values): …"}
"""

from poise.examples import Conversation, Message
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow
from poise.sources.turns import instruction_in

ABOUT = About(
    hub="Vezora/Tested-22k-Python-Alpaca",
    columns={"instruction": str, "input": (str, None), "output": str},
    licence="apache-2.0",
    confidence=1,
)


def read(row: SourceRow) -> Conversation:
    """Ask the instruction with what it is given; without the input the answer would speak of unseen values."""
    return conversation((*instruction_in(row.columns), Message("assistant", row["output"])), "output")
