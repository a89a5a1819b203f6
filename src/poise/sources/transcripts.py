r"""Dialogues written as one string, as HH-RLHF has them (arXiv:2204.05862, https://github.com/anthropics/hh-rlhf).

{"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away."}
"""

import re
from collections.abc import Iterable
from itertools import groupby

from poise.examples import Message, Role
from poise.sources.refusal import RowError

MARKER = re.compile(r"\n\n(Human|Assistant):")
SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Tell whether a text opens with a turn marker."""
    return MARKER.match(text) is not None


def parse_transcript(text: str, column: str) -> tuple[Message, ...]:
    """Cut a transcript at its markers; turns are stripped, and neighbours of one role become one turn."""
    opening, *rest = MARKER.split(text)
    if not rest or opening.strip():
        found = "no turn markers" if not rest else f"text before the first marker: {opening.strip()[:40]!r}"
        raise RowError(
            "no turn markers",
            f" {column}",
            f"{found}; a transcript opens with '\\n\\nHuman:' or '\\n\\nAssistant:'",
            "without a prompt column the prompt is read from the turns that chosen and rejected share",
            "add a prompt column, or write the dialogue with markers or as a list of messages",
        )
    speakers, contents = rest[::2], rest[1::2]
    return _merge(
        Message(SPEAKERS[speaker], content.strip()) for speaker, content in zip(speakers, contents, strict=True)
    )


def _merge(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Join neighbours of one role with a blank line, because chat templates refuse them."""
    merged: list[Message] = []
    for role, turns in groupby(messages, key=_role):
        merged.append(Message(role, "\n\n".join(message.content for message in turns if message.content)))
    return tuple(merged)


def _role(message: Message) -> Role:
    return message.role
