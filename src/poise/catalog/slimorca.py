"""SlimOrca: 518k questions of FLAN answered by GPT-4, those of OpenOrca that a second look found right.

https://huggingface.co/datasets/Open-Orca/SlimOrca

    {"conversations": [{"from": "system", "value": "You are an AI assistant. …", "weight": null},
                       {"from": "human", "value": "Write an article based on this …", "weight": 0.0},
                       {"from": "gpt", "value": "Title: …", "weight": 1.0}]}

`weight` is left unread on purpose: it is 1 where the assistant speaks, and those are the turns that are trained.
"""

from poise.examples import Conversation
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow
from poise.sources.turns import messages_in

ABOUT = About(
    hub="Open-Orca/SlimOrca",
    columns={"conversations": [{"from": str, "value": str}]},
    licence="mit",
    confidence=2,
)


def read(row: SourceRow) -> Conversation:
    """Keep the turns as they are, the system prompt among them."""
    return conversation(messages_in(row.columns, "conversations"), "conversations")
