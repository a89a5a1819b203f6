"""MathInstruct: mathematics answered by steps in words or by a program (Yue et al. 2023, arXiv:2309.05653).

https://huggingface.co/datasets/TIGER-Lab/MathInstruct

    {"source": "data/CoT/aqua_rat.json", "instruction": "The distance between two stars is …", "output": "Let's …"}
"""

from poise.examples import Conversation, Message
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow

ABOUT = About(
    hub="TIGER-Lab/MathInstruct",
    columns={"instruction": str, "output": str},
    licence="mit",
    confidence=3,
)


def read(row: SourceRow) -> Conversation:
    """Ask the instruction, answer with the output, both as they are."""
    return conversation((Message("user", row["instruction"]), Message("assistant", row["output"])), "output")
