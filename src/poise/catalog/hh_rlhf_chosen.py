r"""HH-RLHF's preferred dialogues, to imitate before preferring them, as in the DPO paper (arXiv:2305.18290, section 6).

https://huggingface.co/datasets/Anthropic/hh-rlhf

    {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away."}
"""

from poise.examples import Conversation
from poise.sources.dataset import About, SourceRow
from poise.sources.transcripts import parse_transcript

ABOUT = About(
    hub="Anthropic/hh-rlhf",
    columns={"chosen": str},
    licence="mit",
    risk="The preferred answer is the better of two, and can still be harmful or offensive.",
)


def read(row: SourceRow) -> Conversation:
    """Take the preferred transcript whole."""
    return Conversation(parse_transcript(row["chosen"], "chosen"))
