"""UltraFeedback (arXiv:2310.01377) in pairs, as AllenAI cleaned it of TruthfulQA's prompts: the generation split.

https://huggingface.co/datasets/allenai/ultrafeedback_binarized_cleaned

    {"prompt": "Hi", "chosen": [{"content": "Hi", "role": "user"}, {"content": "Hello!", "role": "assistant"}],
     "rejected": [{"content": "Hi", "role": "user"}, {"content": "What?", "role": "assistant"}],
     "score_chosen": 8.5, "score_rejected": 3.0, "source": "sharegpt", …}
"""

from poise.examples import Message, PreferencePair
from poise.sources.answers import pair_of_dialogues
from poise.sources.dataset import About, SourceRow
from poise.sources.refusal import NothingToLearn
from poise.sources.turns import messages_in

TURN = {"content": str, "role": str}

ABOUT = About(
    hub="allenai/ultrafeedback_binarized_cleaned",
    split="train_gen",
    columns={"chosen": [TURN], "rejected": [TURN], "score_chosen": float},
    licence="mit",
)


def read(row: SourceRow, *, min_score: float = 8) -> PreferencePair:
    """Take pairs of one question and one answer whose chosen side scores at least `min_score`, as bagel does."""
    chosen, rejected = messages_in(row.columns, "chosen"), messages_in(row.columns, "rejected")
    if row["score_chosen"] < min_score:
        raise NothingToLearn("score too low", f"score_chosen {row['score_chosen']}")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if [message.role for message in side] != ["user", "assistant"]:
            raise NothingToLearn("not one question and one answer", name)
    if _folded(chosen) == _folded(rejected):
        raise NothingToLearn("chosen equals rejected")
    return pair_of_dialogues(chosen, rejected)


def _folded(messages: tuple[Message, ...]) -> str:
    return messages[1].content.lower()
