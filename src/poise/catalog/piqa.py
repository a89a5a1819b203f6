"""PIQA: which of two ways to reach an everyday goal works (Bisk et al. 2019, arXiv:1911.11641), the train split.

https://huggingface.co/datasets/baber/piqa, the rows of ybisk/piqa as parquet, which needs no loading script

    {"goal": "When boiling butter, when it's ready, you can", "sol1": "Pour it onto a plate",
     "sol2": "Pour it into a jar", "label": 1}
"""

from poise.catalog._choices import ask, right_choice
from poise.examples import Conversation
from poise.sources.dataset import About, Probability, SourceRow

ABOUT = About(
    hub="baber/piqa",
    columns={"goal": str, "sol1": str, "sol2": str, "label": int},
    licence="afl-3.0",
    confidence=3,
)


def read(row: SourceRow, *, letter_only: Probability = 0.25) -> Conversation:
    """Ask for the better way and, with the probability `letter_only`, for nothing but its letter."""
    right = right_choice(row["label"], range(2), "label")
    return ask(row["goal"], (row["sol1"], row["sol2"]), right, letter_only=row.chance.random() < letter_only)
