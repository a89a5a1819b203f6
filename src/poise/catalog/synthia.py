r"""Synthia v1.3: long reasoned answers of GPT-4, part of them in dialogues of several turns.

https://huggingface.co/datasets/migtissera/Synthia-v1.3

    {"system": "Elaborate on the topic using a Tree of Thoughts …", "response": "For a start, …",
     "instruction": "How do tides work?\nASSISTANT: The Moon pulls …\nUSER: And why twice a day?"}

All turns but the last answer stand in `instruction`, where markers open them; the first may come without.
"""

import re

from poise.examples import Conversation, Message
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow
from poise.sources.refusal import NothingToLearn
from poise.sources.roles import role_of
from poise.sources.turns import system_in

MARKER = re.compile(r"\b(USER|ASSISTANT):")
QUOTED = re.compile(r"""["'“‘](?:USER|ASSISTANT):?["'”’]""")

ABOUT = About(
    hub="migtissera/Synthia-v1.3",
    columns={"system": str, "instruction": str, "response": str},
    licence="apache-2.0",
    confidence=1,
)


def read(row: SourceRow) -> Conversation:
    """Cut the instruction into its turns; a row that speaks about the markers is left out, it cannot be cut safely."""
    if "USER" in row["system"]:
        raise NothingToLearn("turn marker in the system prompt", "system")
    if QUOTED.search(row["instruction"]):
        raise NothingToLearn("quoted turn marker", "instruction")
    turns = _turns(row["instruction"])
    roles = [turn.role for turn in turns]
    if roles != ["user", *["assistant", "user"] * (len(turns) // 2)]:
        raise NothingToLearn("turns out of order", "instruction")
    return conversation((*system_in(row.columns), *turns, Message("assistant", row["response"])), "response")


def _turns(instruction: str) -> tuple[Message, ...]:
    opening, *marked = MARKER.split(instruction)
    if not marked:
        return (Message("user", instruction),)
    unmarked = (Message("user", opening.strip()),) if opening.strip() else ()
    turns = zip(marked[::2], marked[1::2], strict=True)
    return *unmarked, *(Message(role_of(speaker, "instruction"), content.strip()) for speaker, content in turns)
