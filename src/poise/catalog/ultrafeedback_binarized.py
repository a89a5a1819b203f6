"""UltraFeedback (arXiv:2310.01377) in pairs, as Zephyr was trained on (arXiv:2310.16944): the preference split.

https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized

    {"prompt": "Hi", "prompt_id": "…", "messages": […], "score_chosen": 8.5, "score_rejected": 3.0,
     "chosen": [{"content": "Hi", "role": "user"}, {"content": "Hello!", "role": "assistant"}],
     "rejected": [{"content": "Hi", "role": "user"}, {"content": "What?", "role": "assistant"}]}
"""

from poise.examples import PreferencePair
from poise.sources.answers import pair_of_dialogues
from poise.sources.dataset import About, SourceRow
from poise.sources.turns import messages_in

TURN = {"content": str, "role": str}

ABOUT = About(
    hub="HuggingFaceH4/ultrafeedback_binarized",
    split="train_prefs",
    columns={"chosen": [TURN], "rejected": [TURN]},
    licence="mit",
)


def read(row: SourceRow) -> PreferencePair:
    """Take the turns that both sides share as the prompt."""
    return pair_of_dialogues(messages_in(row.columns, "chosen"), messages_in(row.columns, "rejected"))
