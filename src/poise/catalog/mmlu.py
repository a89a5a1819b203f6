"""MMLU's auxiliary training split: exam questions with four choices (Hendrycks et al. 2020, arXiv:2009.03300).

https://huggingface.co/datasets/cais/mmlu

    {"question": "Davis decided to kill Adams. He set out for Adams's house. …", "subject": "",
     "choices": ["…", "…", "…", "…"], "answer": 1}
"""

from poise.catalog._choices import ask, right_choice
from poise.examples import Conversation
from poise.sources.dataset import About, Probability, SourceRow

ABOUT = About(
    hub="cais/mmlu",
    config="all",
    split="auxiliary_train",
    columns={"question": str, "choices": [str], "answer": int},
    licence="mit",
    confidence=3,
    risk="The split is collected from the training sets of other benchmarks (ARC, OpenBookQA, RACE, MCTest), so it "
    "holds rows of those sources again, and scores on those benchmarks are of a model that has practised for them.",
)


def read(row: SourceRow, *, letter_only: Probability = 0.5) -> Conversation:
    """Ask for the right choice and, with the probability `letter_only`, for nothing but its letter."""
    texts = row["choices"]
    right = right_choice(row["answer"], range(len(texts)), "answer")
    return ask(row["question"], texts, right, letter_only=row.chance.random() < letter_only)
