"""Open-Platypus: 25k questions of logic and science from eleven datasets (Lee et al. 2023, arXiv:2308.07317).

https://huggingface.co/datasets/garage-bAInd/Open-Platypus

    {"input": "", "output": "To find the probability of …", "instruction": "A board game spinner is divided into …",
     "data_source": "MATH/PRM-800K"}
"""

from poise.examples import Conversation, Message
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow
from poise.sources.turns import instruction_in

ABOUT = About(
    hub="garage-bAInd/Open-Platypus",
    columns={"instruction": str, "input": (str, None), "output": str},
    licence="cc-by-nc-4.0 (mixed)",
    risk="Its parts keep licences of their own, and some of them forbid commercial use.",
)


def read(row: SourceRow) -> Conversation:
    """Ask the instruction with what it is given, answer with the output."""
    return conversation((*instruction_in(row.columns), Message("assistant", row["output"])), "output")
