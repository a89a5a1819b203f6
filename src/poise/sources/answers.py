"""What a conversation or a pair needs to teach anything: an answer, and in a pair two that differ."""

from itertools import takewhile

from poise.examples import Conversation, Message, PreferencePair
from poise.sources.refusal import NothingToLearn
from poise.sources.turns import Columns, system_in

Messages = tuple[Message, ...]


def conversation(messages: Messages, column: str) -> Conversation:
    """Return a conversation; NothingToLearn, with its column as evidence, where no assistant turn says anything."""
    if all(message.role != "assistant" for message in messages):
        raise NothingToLearn("no assistant turn", column)
    require_answer(messages, column)
    return Conversation(messages)


def pair(prompt: Messages, chosen: Messages, rejected: Messages) -> PreferencePair:
    """Return a pair; NothingToLearn where the answers are equal, one is empty, or they answer nothing."""
    if chosen == rejected:
        raise NothingToLearn("chosen equals rejected")
    require_answer(chosen, "chosen")
    require_answer(rejected, "rejected")
    if not prompt or chosen[0].role != "assistant" or rejected[0].role != "assistant":
        raise NothingToLearn("no shared prompt")
    return PreferencePair(prompt, chosen, rejected)


def pair_of_texts(columns: Columns, question: str) -> PreferencePair:
    """Return the texts `chosen` and `rejected` behind a column with the question and the system prompt, if any."""
    prompt = (*system_in(columns), Message("user", columns[question]))
    chosen, rejected = (Message("assistant", columns[side]) for side in ("chosen", "rejected"))
    return pair(prompt, (chosen,), (rejected,))


def pair_of_dialogues(chosen: Messages, rejected: Messages) -> PreferencePair:
    """Take the turns that both open with as the prompt, up to the last that is not the assistant's."""
    together = zip(chosen, rejected, strict=False)
    shared = [mine for mine, _ in takewhile(lambda turns: turns[0] == turns[1], together)]
    while shared and shared[-1].role == "assistant":
        shared.pop()
    return pair(tuple(shared), chosen[len(shared) :], rejected[len(shared) :])


def require_answer(messages: Messages, column: str) -> None:
    """Raise NothingToLearn where no assistant turn says anything."""
    if not any(message.role == "assistant" and message.content.strip() for message in messages):
        raise NothingToLearn("empty completion", column)
