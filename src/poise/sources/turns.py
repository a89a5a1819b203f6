"""Text and messages taken from the columns of a row, checked."""

from collections.abc import Mapping
from typing import Any, cast

from poise.examples import Message, Role
from poise.sources.refusal import RowError
from poise.sources.roles import role_of
from poise.sources.transcripts import is_transcript, parse_transcript

Columns = Mapping[str, Any]

TURN_KEYS = (("role", "content"), ("from", "value"))
SYSTEM_COLUMNS = ("system", "system_prompt")
KINDS = {
    "NoneType": "null",
    "bool": "true or false",
    "dict": "an object",
    "float": "a number",
    "int": "a number",
    "list": "a list",
    "str": "text",
}
NO_GUESSING = "what is missing cannot be guessed, and a guess would be trained on"


def text_in(columns: Columns, name: str) -> str:
    """Return the text of a column, byte for byte."""
    return _text(_value(columns, name), name)


def optional_text(columns: Columns, name: str) -> str:
    """Return the text of a column that may be absent or null."""
    return "" if columns.get(name) is None else text_in(columns, name)


def messages_in(columns: Columns, name: str) -> tuple[Message, ...]:
    """Return the messages of a column that holds a list of them."""
    value = _value(columns, name)
    if not isinstance(value, list):
        raise _wrong_type(name, value, "a list of messages")
    return _messages(cast("list[Any]", value), name)


def turns_in(columns: Columns, name: str, role: Role) -> tuple[Message, ...]:
    """Return a column of messages as they are, and a column of text as one turn of `role`."""
    value = _value(columns, name)
    if isinstance(value, str):
        return (Message(role, _text(value, name)),)
    if not isinstance(value, list):
        raise _wrong_type(name, value, "text or a list of messages")
    return _messages(cast("list[Any]", value), name)


def prompt_in(columns: Columns) -> tuple[Message, ...]:
    """Return the prompt: messages as they are; text as a user turn, behind the row's system prompt if it has one.

    A text prompt that is itself a transcript is cut into its turns, without the open turn at its end.
    """
    value = columns.get("prompt")
    if isinstance(value, str) and is_transcript(value):
        turns = parse_transcript(_text(value, "prompt"), "prompt")
        turns = turns[:-1] if turns[-1] == Message("assistant", "") else turns
        return system_in(columns) + turns
    turns = turns_in(columns, "prompt", "user")
    return system_in(columns) + turns if isinstance(value, str) else turns


def instruction_in(columns: Columns) -> tuple[Message, ...]:
    """Return an instruction and what it is given as a user turn, behind the row's system prompt if it has one."""
    question, given = text_in(columns, "instruction"), optional_text(columns, "input")
    return (*system_in(columns), Message("user", f"{question}\n\n{given}" if given.strip() else question))


def list_in(columns: Columns, name: str) -> list[Any]:
    """Return the values of a column that holds a list."""
    value = _value(columns, name)
    if not isinstance(value, list):
        raise _wrong_type(name, value, "a list")
    return cast("list[Any]", value)


def system_in(columns: Columns) -> tuple[Message, ...]:
    """Return the row's system prompt as a turn, or nothing."""
    texts = (optional_text(columns, name) for name in SYSTEM_COLUMNS)
    return tuple(Message("system", text) for text in texts if text.strip())[:1]


def label_in(columns: Columns, name: str = "label") -> bool:
    """Return the label of a KTO row; csv has no other way to write it than the words true and false."""
    value = _value(columns, name)
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if not isinstance(value, bool):
        raise RowError(
            "wrong type",
            f" {name}",
            f"{_kind(value)} where true or false is expected",
            "the label decides whether the answer is made more or less likely",
            "write true or false; or name the other columns in `columns` if this label means something else",
        )
    return value


def _value(columns: Columns, name: str) -> Any:
    if name not in columns:
        raise RowError(
            "missing column",
            f" {name}",
            f"there is no {name!r} here, but the first rows have it; this row has {_names(columns)}",
            "the shape of a file is decided by its first rows and holds for all of them",
            "give every row the same columns, or put rows of another shape into a file of their own",
        )
    if columns[name] is None:
        raise RowError("null value", f" {name}", "null where a value is expected", NO_GUESSING, "fill it or delete it")
    return columns[name]


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(where, value, "text")
    refuse_surrogates(value, where)
    return value


def refuse_surrogates(value: str, where: str) -> None:
    """Raise RowError for text that has no UTF-8 form."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            "lone surrogate",
            f" {where}",
            f"a lone surrogate, \\u{ord(value[error.start]):04x}, at character {error.start + 1}",
            "half of a pair is no character: it has no UTF-8 form and no tokenizer can read it",
            "write the character itself, or both halves of the pair",
        ) from None


def _messages(values: list[Any], name: str) -> tuple[Message, ...]:
    if not values:
        raise RowError("empty messages", f" {name}", "an empty list of messages", NO_GUESSING, "delete the row")
    return tuple(_message(value, f"{name}[{index}]") for index, value in enumerate(values))


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise _wrong_type(where, value, "a message")
    message = cast("dict[str, Any]", value)
    for role_key, content_key in TURN_KEYS:
        if role_key in message and content_key in message:
            break
    else:
        raise RowError(
            "malformed message",
            f" {where}",
            f"a message without role and content; it has {_names(message)}",
            NO_GUESSING,
            "write {'role': …, 'content': …} or {'from': …, 'value': …}",
        )
    if message.get("tool_calls"):
        raise RowError(
            "tool calls",
            f" {where}.tool_calls",
            "a message with tool calls beside its content",
            "only role and content reach the model, so the call would be left out in silence",
            "write the call into the content, or delete the row",
        )
    name = _required(message, role_key, where)
    return Message(role_of(name, f"{where}.{role_key}"), _required(message, content_key, where))


def _required(message: Mapping[str, Any], key: str, where: str) -> str:
    if message[key] is None:
        raise RowError(f"null {key}", f" {where}.{key}", f"null {key}", NO_GUESSING, "write text, or delete the row")
    return _text(message[key], f"{where}.{key}")


def _wrong_type(where: str, value: object, expected: str) -> RowError:
    return RowError(
        "wrong type",
        f" {where}",
        f"{_kind(value)} where {expected} is expected",
        "a value is not converted, because its meaning would be guessed",
        f"write {expected} here, or name the columns to read in `columns`",
    )


def _names(columns: Columns, at_most: int = 10) -> str:
    names = [repr(name[:60]) for name in columns]
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(names[:at_most]) or "nothing") + more


def _kind(value: object) -> str:
    if isinstance(value, float) and value != value:
        return "NaN"
    return KINDS.get(type(value).__name__, type(value).__name__)
