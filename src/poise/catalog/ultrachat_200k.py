"""UltraChat 200k: the part of UltraChat (arXiv:2305.14233) that Zephyr was tuned on (arXiv:2310.16944).

https://huggingface.co/datasets/HuggingFaceH4/ultrachat_200k

    {"prompt": "Hi", "prompt_id": "…", "messages": [{"content": "Hi", "role": "user"},
     {"content": "Hello!", "role": "assistant"}, …]}
"""

from poise.examples import Conversation
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow
from poise.sources.turns import messages_in

ABOUT = About(
    hub="HuggingFaceH4/ultrachat_200k",
    split="train_sft",
    columns={"messages": [{"content": str, "role": str}]},
    licence="mit",
)


def read(row: SourceRow) -> Conversation:
    """Take the turns as they are; the prompt column repeats the first."""
    return conversation(messages_in(row.columns, "messages"), "messages")
