"""The column shapes poise knows, each with the Example it becomes.

    {"text": "…"}                                                       Document
    {"messages": [{"role": "user", "content": "…"}, …]}                 Conversation
    {"conversations": [{"from": "human", "value": "…"}, …]}             Conversation
    {"instruction": "…", "input": "…", "output": "…"}                   Conversation
    {"prompt": "…", "completion": "…"}                                  Conversation
    {"prompt": "…", "completion": "…", "label": true}                   LabeledConversation
    {"messages": […], "label": true}                                    LabeledConversation
    {"messages": […], "desirable": true}                                LabeledConversation
    {"prompt": "…", "chosen": "…", "rejected": "…"}                     PreferencePair
    {"chosen": […], "rejected": […]}                                    PreferencePair
    {"prompt": "…", "answers": ["…", …], "scores": [9, …]}              RankedAnswers, more of them in ranked.py

A prompt, completion, chosen or rejected may be text or messages; chosen and rejected alone may also be transcripts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from poise.examples import (
    Conversation,
    Document,
    Example,
    LabeledConversation,
    Message,
    PreferencePair,
    RankedAnswers,
)
from poise.sources import ranked
from poise.sources.answers import conversation, pair, pair_of_dialogues, require_answer
from poise.sources.refusal import NothingToLearn, RowError
from poise.sources.transcripts import is_transcript, parse_transcript
from poise.sources.turns import Columns, instruction_in, label_in, messages_in, prompt_in, system_in, text_in, turns_in

Messages = tuple[Message, ...]


@dataclass(frozen=True)
class Shape:
    """Columns that together mean one kind of Example."""

    needs: tuple[str, ...]
    """Columns; `a or b` is either."""
    kind: type[Example]
    read: Callable[[Columns], Example]

    def fits(self, columns: set[str]) -> bool:
        """Tell whether these columns have all that it needs."""
        return all(columns.intersection(need.split(" or ")) for need in self.needs)


def shape_of(head: Sequence[Columns], text_column: str, prefer: type[Example] | None) -> Shape | None:
    """Return the most specific shape that the first rows have, one of kind `prefer` before any other.

    A column that is null in all of them counts only where nothing fits without it.
    """
    filled = {name for row in head for name, value in row.items() if value is not None}
    present = {name for row in head for name in row}
    for columns in (filled, present):
        fitting = [shape for shape in shapes(text_column) if shape.fits(columns)]
        wanted = [shape for shape in fitting if shape.kind is prefer]
        if fitting and fitting[0].kind is LabeledConversation:
            return fitting[0]  # an answer marked bad must not be read as one to learn
        if fitting:
            return (wanted or fitting)[0]
    return None


def shapes(text_column: str = "text") -> list[Shape]:
    """List the shapes, the most specific first."""
    document = Shape((text_column,), Document, lambda columns: _document(columns, text_column))
    return [*SHAPES, document] if text_column == "text" else [document, *SHAPES]


def _document(columns: Columns, name: str) -> Document:
    text = text_in(columns, name)
    if not text.strip():
        raise NothingToLearn("empty text", name)
    return Document(text)


def _messages(columns: Columns) -> Conversation:
    return conversation(messages_in(columns, "messages"), "messages")


def _sharegpt(columns: Columns) -> Conversation:
    turns = messages_in(columns, "conversations")
    system = () if turns[0].role == "system" else system_in(columns)
    return conversation(system + turns, "conversations")


def _instruction(columns: Columns) -> Conversation:
    asked, answer = instruction_in(columns), Message("assistant", text_in(columns, "output"))
    return conversation((*asked, answer), "output")


def _completed(columns: Columns) -> Conversation:
    prompt = prompt_in(columns)
    completion = _without(prompt, turns_in(columns, "completion", "assistant"))
    require_answer(completion, "completion")
    return Conversation(prompt + completion)


def _labeled_completion(columns: Columns) -> LabeledConversation:
    return LabeledConversation(_completed(columns).messages, label_in(columns))


def _labeled_messages(columns: Columns) -> LabeledConversation:
    return LabeledConversation(_messages(columns).messages, label_in(columns))


def _own_labeled_messages(columns: Columns) -> LabeledConversation:
    return LabeledConversation(_messages(columns).messages, label_in(columns, "desirable"))


def _prompted_pair(columns: Columns) -> PreferencePair:
    """Read a pair with its prompt; chosen and rejected may repeat it, as ultrafeedback_binarized does."""
    chosen, rejected = _side(columns, "chosen"), _side(columns, "rejected")
    prompt = prompt_in(columns)
    is_whole = chosen[0].role != "assistant" and rejected[0].role != "assistant"
    if not is_whole:
        return pair(prompt, _without(prompt, chosen), _without(prompt, rejected))
    if isinstance(columns["prompt"], str):
        return pair_of_dialogues(chosen, rejected)
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side[: len(prompt)] != prompt:
            raise RowError(
                "prompt not repeated",
                f" {name}",
                f"opens with a {side[0].role} turn but not with the messages of the prompt column",
                "it cannot be told which of the two is the prompt the answers belong to",
                "let it begin with the prompt or with an assistant turn, or leave prompt out of `columns`",
            )
    return pair(prompt, _without(prompt, chosen), _without(prompt, rejected))


def _implied_pair(columns: Columns) -> PreferencePair:
    return pair_of_dialogues(
        *(
            parse_transcript(text_in(columns, name), name)
            if isinstance(columns.get(name), str)
            else turns_in(columns, name, "assistant")
            for name in ("chosen", "rejected")
        )
    )


def _side(columns: Columns, name: str) -> Messages:
    """Return one side of a pair; text is an answer unless it is a transcript of the whole dialogue."""
    value = columns.get(name)
    if isinstance(value, str) and is_transcript(value):
        return parse_transcript(text_in(columns, name), name)
    return turns_in(columns, name, "assistant")


def _without(prompt: Messages, turns: Messages) -> Messages:
    """Strip the prompt where the turns repeat it."""
    return turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns


PROMPTS, LISTS, ORDERS = "prompt or instruction", " or ".join(ranked.ANSWERS), " or ".join(ranked.ORDERS)
SHAPES = (
    Shape(("prompt", "chosen", "rejected"), PreferencePair, _prompted_pair),
    Shape(("chosen", "rejected"), PreferencePair, _implied_pair),
    Shape((PROMPTS, LISTS, ORDERS), RankedAnswers, ranked.ranked_answers),
    Shape(("prompt", "completion", "label"), LabeledConversation, _labeled_completion),
    Shape(("messages", "label"), LabeledConversation, _labeled_messages),
    Shape(("messages", "desirable"), LabeledConversation, _own_labeled_messages),
    Shape(("messages",), Conversation, _messages),
    Shape(("conversations",), Conversation, _sharegpt),
    Shape(("instruction", "output"), Conversation, _instruction),
    Shape(("prompt", "completion"), Conversation, _completed),
    Shape((PROMPTS, LISTS), RankedAnswers, ranked.ranked_answers),
)
