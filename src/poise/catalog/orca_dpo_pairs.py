"""Orca pairs: a GPT answer to an Orca prompt (arXiv:2306.02707) against one of Llama 2 13B Chat, system prompt kept.

https://huggingface.co/datasets/Intel/orca_dpo_pairs

    {"system": "You are an AI assistant.", "question": "Name a prime.", "chosen": "7 is a prime.", "rejected": "9"}
"""

from poise.examples import PreferencePair
from poise.sources.answers import pair_of_texts
from poise.sources.dataset import About, SourceRow

ABOUT = About(
    hub="Intel/orca_dpo_pairs",
    columns={"system": str, "question": str, "chosen": str, "rejected": str},
    licence="apache-2.0",
)


def read(row: SourceRow) -> PreferencePair:
    """Take the pair as it is; an empty system prompt is none."""
    return pair_of_texts(row.columns, "question")
