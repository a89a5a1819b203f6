"""Truthy DPO: true against false, as an AI or as the human that the system prompt describes.

https://huggingface.co/datasets/jondurbin/truthy-dpo-v0.1

    {"id": "…", "source": "truthy_dpo", "system": "You are an unbiased AI.", "prompt": "Do you get hungry?",
     "chosen": "No, I have no body.", "rejected": "Around noon, yes."}
"""

from poise.examples import PreferencePair
from poise.sources.answers import pair_of_texts
from poise.sources.dataset import About, SourceRow

ABOUT = About(
    hub="jondurbin/truthy-dpo-v0.1",
    columns={"system": str, "prompt": str, "chosen": str, "rejected": str},
    licence="cc-by-4.0",
)


def read(row: SourceRow) -> PreferencePair:
    """Keep the system prompt: it alone decides which of the two answers is the true one."""
    return pair_of_texts(row.columns, "prompt")
