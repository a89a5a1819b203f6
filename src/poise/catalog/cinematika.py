"""Cinematika v0.1, its instructions: character cards, summaries and enriched scenes made from film scripts.

https://huggingface.co/datasets/jondurbin/cinematika-v0.1

    {"input": "Create a character card for Rick, who …", "output": "name: Rick …"}

The files of plain text in the same repository are the source `cinematika_scenes`.
"""

from poise.examples import Conversation, Message
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow

ABOUT = About(
    hub="jondurbin/cinematika-v0.1",
    columns={"input": str, "output": str},
    files=(
        "prompt_to_character_card.parquet",
        "rp_to_character_card.parquet",
        "scene_summary.parquet",
        "scene_enhancement.parquet",
    ),
    licence="cc-by-nc-4.0",
    confidence=3,
)


def read(row: SourceRow) -> Conversation:
    """Ask the input, answer with the output, both as they are."""
    return conversation((Message("user", row["input"]), Message("assistant", row["output"])), "output")
