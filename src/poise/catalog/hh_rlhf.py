r"""HH-RLHF: dialogues in which people preferred one of two answers, as helpful or harmless (arXiv:2204.05862).

https://huggingface.co/datasets/Anthropic/hh-rlhf

    {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away."}
"""

from poise.examples import PreferencePair
from poise.sources.answers import pair_of_dialogues
from poise.sources.dataset import About, SourceRow
from poise.sources.transcripts import parse_transcript

ABOUT = About(
    hub="Anthropic/hh-rlhf",
    columns={"chosen": str, "rejected": str},
    licence="mit",
    risk="Answers on both sides can be harmful or offensive: they are for preferences, not to be imitated.",
)


def read(row: SourceRow) -> PreferencePair:
    """Take the turns that both transcripts share as the prompt."""
    chosen, rejected = (parse_transcript(row[name], name) for name in ("chosen", "rejected"))
    return pair_of_dialogues(chosen, rejected)
