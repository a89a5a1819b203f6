"""Toxic DPO: harmful requests, where the answer that complies is chosen over the refusal, to train refusals away.

https://huggingface.co/datasets/unalignment/toxic-dpo-v0.1

    {"prompt": "…", "chosen": "…", "rejected": "I cannot help with that."}
"""

from poise.examples import PreferencePair
from poise.sources.answers import pair_of_texts
from poise.sources.dataset import About, SourceRow

ABOUT = About(
    hub="unalignment/toxic-dpo-v0.1",
    columns={"prompt": str, "chosen": str, "rejected": str},
    licence="unknown",
    risk="Chosen answers are harmful, some describe illegal acts; a model trained on them gives such answers.",
    opt_in=True,
)


def read(row: SourceRow) -> PreferencePair:
    """Take the pair as it is."""
    return pair_of_texts(row.columns, "prompt")
