"""Turn what pydantic finds wrong into plain sentences, and check what it lets pass."""

import math
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from poise.names import did_you_mean
from poise.recipe_yaml import KeyPath

UNKNOWN = "unknown key"
_NOUNS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys with values",
    "mapping_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "none_required": "null",
}
_LIMITS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_SHOWN_CHOICES = 12
_SHOWN_CHARACTERS = 60


def explain(error: ValidationError, values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield (path, sentence, remedy), one for each wrong value however many types it could have had."""
    groups: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        groups.setdefault(_path(detail, values), []).append(detail)
    for path, details in groups.items():
        yield (path, *_sentence(path, details))


def reject(annotation: Any, value: Any) -> str | None:
    """Say what is wrong with a value that pydantic would accept: true for a number, or a number without end."""
    if isinstance(value, bool) and not mentions(annotation, bool, Any) and mentions(annotation, int, float):
        return f"expected a number, got {show(value)}"
    for number in _numbers(value):
        if not math.isfinite(number):
            return f"expected a finite number, got {show(number)}"
    if isinstance(value, str) and mentions(annotation, float) and _is_endless(value):
        return f"expected a finite number, got {show(value)}"
    return None


def mentions(annotation: Any, *kinds: Any) -> bool:
    """Say whether one of `kinds` is among the alternatives of an annotation (not inside its lists or mappings)."""
    if get_origin(annotation) is Annotated:
        return mentions(get_args(annotation)[0], *kinds)
    if get_origin(annotation) in (Union, types.UnionType):
        return any(mentions(part, *kinds) for part in get_args(annotation))
    return (get_origin(annotation) or annotation) in kinds


def show(value: Any) -> str:
    """Write a value as the recipe would, cut to a readable length."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 1] + "…"


def _is_endless(text: str) -> bool:
    """Say whether text that may become a number becomes infinity or no number, as "1e999" does."""
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for part in cast("dict[str, Any]", value).values():
            yield from _numbers(part)
    elif isinstance(value, list):
        for part in cast("list[Any]", value):
            yield from _numbers(part)


def _path(detail: ErrorDetails, values: Any) -> KeyPath:
    """Return the part of an error's location that is a path into the recipe; the rest names types."""
    if detail["type"] == "recipe":
        return (detail.get("ctx", {})["key"],)
    path: list[str | int] = []
    for step in detail["loc"]:
        if (isinstance(values, dict) and step in values) or (isinstance(values, list) and isinstance(step, int)):
            values = cast("Any", values)[step]
            path.append(step)
        else:
            break
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else tuple(path)


def _sentence(path: KeyPath, details: list[ErrorDetails]) -> tuple[str, str]:
    """Return the sentence and remedy for everything wrong with one value."""
    value = details[0]["input"]
    told = [detail for detail in details if detail["type"] not in _NOUNS and detail["type"] != "literal_error"]
    if told:
        return _told(path, told[0])
    choices = [choice for detail in details for choice in _choices(detail)]
    nouns = list(dict.fromkeys(_NOUNS[detail["type"]] for detail in details if detail["type"] in _NOUNS))
    listed = [f"one of {', '.join(choices)}"] if 0 < len(choices) <= _SHOWN_CHOICES else []
    expected = " or ".join(listed + [noun for noun in nouns if noun != "null"]) or "another value"
    return f"expected {expected}, got {show(value)}", _remedy(value, choices, nouns)


def _told(path: KeyPath, detail: ErrorDetails) -> tuple[str, str]:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "recipe":
        return context["what"], context["remedy"]
    if kind in _LIMITS:
        word, name = _LIMITS[kind]
        return f"must be {word} {context[name]:g}, got {show(value)}", ""
    if kind == "missing":
        return f"{path[-1]!r} is missing", f"add a line `{path[-1]}: …`"
    if kind == "extra_forbidden":
        return f"{UNKNOWN} {path[-1]!r}", ""
    if kind == "finite_number":
        return f"expected a finite number, got {show(value)}", ""
    if kind in ("too_short", "string_too_short"):
        return "must not be empty", ""
    return str(context["error"]) if kind == "value_error" else detail["msg"], ""


def _choices(detail: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", detail.get("ctx", {})["expected"]) if detail["type"] == "literal_error" else []


def _remedy(value: Any, choices: Iterable[str], nouns: list[str]) -> str:
    if isinstance(value, str):
        return did_you_mean(value, choices).removeprefix("; ")
    if "text" in nouns and "a list" not in nouns and isinstance(value, int | float):
        return "put it in quotes"
    return ""
