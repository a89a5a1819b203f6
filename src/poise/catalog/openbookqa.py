"""OpenBookQA: science questions to which an elementary fact must be applied (Mihaylov et al. 2018, arXiv:1809.02789).

https://huggingface.co/datasets/allenai/openbookqa

    {"id": "7-980", "question_stem": "The sun is responsible for", "answerKey": "D",
     "choices": {"text": ["puppies learning new tricks", …, "plants sprouting, …"], "label": ["A", "B", "C", "D"]}}
"""

from poise.catalog._choices import ask_labelled
from poise.examples import Conversation
from poise.sources.dataset import About, Probability, SourceRow

ABOUT = About(
    hub="allenai/openbookqa",
    config="main",
    columns={"question_stem": str, "choices": {"text": [str], "label": [str]}, "answerKey": str},
    licence="unknown",
    confidence=3,
)


def read(row: SourceRow, *, letter_only: Probability = 0.5) -> Conversation:
    """Ask for the right choice and, with the probability `letter_only`, for nothing but its letter."""
    return ask_labelled(row, "question_stem", letter_only)
