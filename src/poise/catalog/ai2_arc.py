"""ARC-Challenge: grade-school science questions that retrieval gets wrong (Clark et al. 2018, arXiv:1803.05457).

https://huggingface.co/datasets/allenai/ai2_arc

    {"id": "Mercury_SC_415702", "question": "George wants to warm his hands quickly by rubbing them. Which …",
     "choices": {"text": ["dry palms", "wet palms", …], "label": ["A", "B", "C", "D"]}, "answerKey": "A"}

Some rows number their choices from 1; they get letters like all others.
"""

from poise.catalog._choices import ask_labelled
from poise.examples import Conversation
from poise.sources.dataset import About, Probability, SourceRow

ABOUT = About(
    hub="allenai/ai2_arc",
    config="ARC-Challenge",
    columns={"question": str, "choices": {"text": [str], "label": [str]}, "answerKey": str},
    licence="cc-by-sa-4.0",
    confidence=3,
)


def read(row: SourceRow, *, letter_only: Probability = 0.5) -> Conversation:
    """Ask for the right choice and, with the probability `letter_only`, for nothing but its letter."""
    return ask_labelled(row, "question", letter_only)
