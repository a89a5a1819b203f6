"""The texts of an Example that curation compares: what is asked, what is answered, all of it."""

import unicodedata
from itertools import takewhile

from poise.examples import (
    Conversation,
    Document,
    Example,
    LabeledConversation,
    Message,
    PreferencePair,
    RankedAnswers,
)


def prompt_of(example: Example) -> tuple[Message, ...]:
    """Return the messages that are given: a pair's prompt, a conversation's turns before its last answer."""
    if isinstance(example, Document):
        return ()
    if isinstance(example, Conversation):
        answers = [index for index, message in enumerate(example.messages) if message.role == "assistant"]
        return example.messages[: answers[-1]] if answers else example.messages
    return example.prompt


def user_turns(example: Example) -> list[str]:
    """Return every user turn, those within the answers too."""
    return [message.content for message in messages_of(example) if message.role == "user"]


def system_turns(example: Example) -> list[str]:
    """Return every system turn."""
    return [message.content for message in messages_of(example) if message.role == "system"]


def opening(example: Example) -> list[str]:
    """Return system and user turns before the first answer, a document's text."""
    if isinstance(example, Document):
        return [example.text]
    first = list(takewhile(lambda message: message.role != "assistant", messages_of(example)))
    return [message.content for role in ("system", "user") for message in first if message.role == role]


def answers(example: Example) -> list[str]:
    """Return the assistant turns that training makes more likely: a pair's chosen ones, the best of a ranked list."""
    if isinstance(example, Document):
        return [example.text]
    if isinstance(example, Conversation):
        turns = example.messages
    elif isinstance(example, LabeledConversation):
        turns = example.messages if example.desirable else ()
    elif isinstance(example, RankedAnswers):
        turns = example.answers[example.ranks.index(min(example.ranks))]
    else:
        turns = example.chosen
    return [message.content for message in turns if message.role == "assistant"]


def whole_text(example: Example) -> str:
    """Return all that is trained on or given, turn after turn: what near-duplicates are told by."""
    if isinstance(example, Document):
        return example.text
    return "\n".join(message.content for message in messages_of(example))


def normalised(text: str) -> str:
    """Return the form that keys compare: composed characters, no case, every run of white space one space."""
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()
    return " ".join(folded.split())


def _continued(example: PreferencePair | RankedAnswers) -> tuple[Message, ...]:
    """Return what follows `prompt_of` in the answer that is wanted."""
    if isinstance(example, RankedAnswers):
        return example.answers[example.ranks.index(min(example.ranks))]
    return example.chosen


def messages_of(example: Example) -> tuple[Message, ...]:
    """Return what is given and what is wanted in answer; rejected answers are not learnt."""
    if isinstance(example, Document):
        return ()
    if isinstance(example, Conversation | LabeledConversation):
        return example.messages
    return (*prompt_of(example), *_continued(example))
