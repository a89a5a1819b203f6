"""Airoboros 3.2: conversations that GPT-4 wrote after the manner of Self-Instruct (arXiv:2212.10560).

https://huggingface.co/datasets/jondurbin/airoboros-3.2

    {"id": "…", "category": "writing", "conversations": [{"from": "system", "value": "You are a poet."},
     {"from": "human", "value": "Write two lines on rain."}, {"from": "gpt", "value": "Grey fingers drum …"}]}
"""

from poise.examples import Conversation
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow
from poise.sources.turns import messages_in

ABOUT = About(
    hub="jondurbin/airoboros-3.2",
    columns={"conversations": [{"from": str, "value": str}]},
    licence="cc-by-4.0",
    confidence=1,
)


def read(row: SourceRow) -> Conversation:
    """Take the turns as they are, the system turn too."""
    return conversation(messages_in(row.columns, "conversations"), "conversations")
