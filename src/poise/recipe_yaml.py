"""Recipe files as text: YAML 1.2 read with the place of every key and value, and values written back as YAML.

A recipe is hostile input until it has been read: tags are refused, aliases count as what they expand to, and depth,
size and number of values are bounded.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from poise.errors import RecipeError

AT_MOST_BYTES = 1_000_000
AT_MOST_VALUES = 10_000
AT_MOST_DEPTH = 20

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where something was written: `label` for a person, and for a file the source line and the span in it."""

    label: str
    line: int = 0
    column: int = 0
    width: int = 1
    source: str = ""


@dataclass(frozen=True)
class Fault:
    """One thing wrong at one place, and what to do about it."""

    place: Place
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        """Show the place, the source line with a caret under the fault, the sentence and the remedy."""
        remedy = [f"       = {self.remedy}"] if self.remedy else []
        if not self.place.line:
            return "\n".join([f"  {self.place.label}", f"      {self.what}", *remedy])
        caret = " " * (self.place.column - 1) + "^" * self.place.width
        source, caret = _window(self.place.source, caret)
        shown = [f"  {self.place.label}", f"  {self.place.line:>4} | {source}", f"       | {caret} {self.what}"]
        return "\n".join(shown + remedy)


@dataclass
class YamlText:
    """What a recipe file says: values, and for every path into them the place of its key and of its value."""

    values: dict[str, Any]
    keys: dict[KeyPath, Place] = field(default_factory=dict[KeyPath, Place])
    places: dict[KeyPath, Place] = field(default_factory=dict[KeyPath, Place])
    faults: list[Fault] = field(default_factory=list[Fault])

    def under(self, path: KeyPath) -> "YamlText":
        """Return the mapping at a path as if it were a file of its own; its faults stay with the whole."""
        values: Any = self.values
        for step in path:
            values = values[step]
        return YamlText(dict(values or {}), _below(self.keys, path), _below(self.places, path))

    def with_keys_of(self, other: "YamlText") -> "YamlText":
        """Return this with the keys of `other` in the place of equal ones."""
        keys, places = (
            {path: place for path, place in mine.items() if not path or path[0] not in other.values} | theirs
            for mine, theirs in ((self.keys, other.keys), (self.places, other.places))
        )
        return YamlText({**self.values, **other.values}, keys, places, [*self.faults, *other.faults])


def read_recipe_file(path: Path) -> YamlText:
    """Read a recipe file; a file that is not there, not text or not YAML raises RecipeError with the place."""
    try:
        with path.open("rb") as file:
            raw = file.read(AT_MOST_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from None
    if len(raw) > AT_MOST_BYTES:
        raise RecipeError(f"{path} is larger than {AT_MOST_BYTES:,} bytes: is it a recipe? It may be a data file.")
    try:
        return read_yaml(raw.decode("utf-8-sig"), path.name)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RecipeError(f"{path}:{line}: the file is not UTF-8 text; save it as UTF-8") from None


def read_yaml(text: str, name: str) -> YamlText:
    """Read one YAML document that is a mapping; `name` is the file's name in places."""
    return _Reader(text, name).document()


def read_scalar(text: str) -> str | int | float | bool | None:
    """Return what a plain scalar means in the YAML 1.2 core schema: `no` is text, `1e-6` is a number."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= 100 and _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if len(text) <= 100 and _FLOAT.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return text


def write_entry(key: str, value: Any, comment: str, indent: str = "") -> Iterator[str]:
    """Yield the lines of one `key: value  # comment`, mappings and lists of mappings as blocks."""
    note = f"  # {_printable(comment)}" if comment else ""
    lead = f"{indent}{_text(key)}:"
    if isinstance(value, dict) and value:
        yield lead + note
        for inner, part in cast("dict[str, Any]", value).items():
            yield from write_entry(str(inner), part, "", indent + "  ")
    elif isinstance(value, list | tuple) and any(isinstance(part, dict) for part in cast("list[Any]", value)):
        yield lead + note
        for part in cast("list[dict[str, Any]]", value):
            yield from _item(part, indent)
    else:
        yield f"{lead} {_flow(value)}{note}"


_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_OLD_WORDS = frozenset(("y", "n", "yes", "no", "on", "off"))
"""Truth values in YAML 1.1: quoted when written, so that any reader sees text."""
_INTEGER = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z_./][\w./-]*", re.ASCII)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_SHOWN_WIDTH = 100


class _Reader:
    """One pass over the parser's events, building values and remembering places."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.lines = text.splitlines()
        self.count = 0
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.read = YamlText({})
        self.events = self._events(text)

    def document(self) -> YamlText:
        documents = 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.error(event, "a second document begins here; a recipe is one document")
            elif isinstance(event, MappingStartEvent):
                self.read.values = self.value(event, ())
            elif isinstance(event, ScalarEvent | SequenceStartEvent | AliasEvent) and _content(event):
                raise self.error(event, "a recipe is lines of `key: value`")
        return self.read

    def value(self, event: Any, path: KeyPath) -> Any:
        self.read.places[path] = self.place(event)
        self.count += 1
        if self.count > AT_MOST_VALUES or len(path) > AT_MOST_DEPTH:
            raise self.error(event, f"more than {AT_MOST_VALUES:,} values or {AT_MOST_DEPTH} levels: not a recipe")
        if isinstance(event, AliasEvent):
            return self.alias(event)
        before = self.count
        built = self.build(event, path)
        if event.anchor:
            self.anchors[event.anchor] = (built, self.count - before + 1)
        return built

    def build(self, event: Any, path: KeyPath) -> Any:
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise self.error(event, f"the tag {event.tag!r} is refused: a recipe holds plain values only")
        if isinstance(event, MappingStartEvent):
            return self.mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self.sequence(path)
        plain = event.tag is None and event.implicit[0]
        return read_scalar(event.value) if plain else event.value

    def mapping(self, path: KeyPath) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                break
            if not isinstance(event, ScalarEvent):
                raise self.error(event, "a key must be a word; quote it if it begins with [, {, & or *")
            key, place = str(event.value), self.place(event)
            inner = (*path, key)
            value = self.value(next(self.events), inner)
            if key in built:
                first = self.read.keys[inner].line
                what = f"{key!r} is written twice (first on line {first}); the second one would win"
                self.read.faults.append(Fault(place, what, "keep one of the two"))
                continue
            built[key] = value
            self.read.keys[inner] = place
        return built

    def sequence(self, path: KeyPath) -> list[Any]:
        built: list[Any] = []
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                break
            built.append(self.value(event, (*path, len(built))))
        return built

    def alias(self, event: AliasEvent) -> Any:
        if event.anchor not in self.anchors:
            raise self.error(event, f"there is no anchor &{event.anchor} above this line")
        value, size = self.anchors[event.anchor]
        self.count += size
        return value

    def place(self, event: Event) -> Place:
        start, end = event.start_mark, event.end_mark
        source = self.lines[start.line] if start.line < len(self.lines) else ""
        last = end.column if end.line == start.line else len(source)
        return self.span(start.line, start.column, last - start.column)

    def span(self, line: int, column: int, width: int = 1) -> Place:
        source = self.lines[line] if line < len(self.lines) else ""
        return Place(f"{self.name}:{line + 1}:{column + 1}", line + 1, column + 1, max(width, 1), source)

    def error(self, event: Event, what: str) -> RecipeError:
        return _unreadable(self.name, Fault(self.place(event), what))

    def _events(self, text: str) -> Iterator[Event]:
        """Yield the parser's events; its errors become RecipeErrors that show the line."""
        try:
            yield from YAML(typ="safe", pure=True).parse(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self.span(mark.line, mark.column) if mark else self.span(0, 0)
            what = error.problem or "this is not YAML"
            remedy = "indent with spaces, not tabs" if "\\t" in what else ""
            raise _unreadable(self.name, Fault(place, what, remedy)) from None
        except ReaderError as error:
            before = text[: error.position]
            place = self.span(before.count("\n"), len(before) - before.rfind("\n") - 1)
            raise _unreadable(self.name, Fault(place, "a character that YAML does not allow")) from None
        except (YAMLError, ValueError, RecursionError) as error:
            raise _unreadable(self.name, Fault(self.span(0, 0), f"this is not YAML: {error}")) from None


def _below(places: dict[KeyPath, Place], path: KeyPath) -> dict[KeyPath, Place]:
    return {inner[len(path) :]: place for inner, place in places.items() if inner[: len(path)] == path}


def _content(event: Event) -> bool:
    return not isinstance(event, ScalarEvent) or bool(event.value)


def _unreadable(name: str, fault: Fault) -> RecipeError:
    return RecipeError(f"{name} cannot be read:\n{fault}")


def _window(source: str, caret: str) -> tuple[str, str]:
    """Cut a long source line so that the caret stays in view."""
    source = _UNPRINTABLE.sub(" ", source)
    start = max(0, caret.find("^") - _SHOWN_WIDTH // 2) if len(source) > _SHOWN_WIDTH else 0
    return source[start : start + _SHOWN_WIDTH], caret[start : start + _SHOWN_WIDTH]


def _item(part: Any, indent: str) -> Iterator[str]:
    if not isinstance(part, dict):
        yield f"{indent}  - {_flow(part)}"
        return
    entries = cast("dict[str, Any]", part).items()
    lines = [line for key, value in entries for line in write_entry(key, value, "", indent + "    ")]
    yield f"{indent}  - {lines[0].lstrip()}" if lines else f"{indent}  - {{}}"
    yield from lines[1:]


def _flow(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_flow(part) for part in cast('list[Any]', value))}]"
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value).items()
        return f"{{{', '.join(f'{_text(key)}: {_flow(part)}' for key, part in entries)}}}"
    number = json.dumps(value)
    return number.replace("e", ".0e") if isinstance(value, float) and "." not in number else number


def _text(text: str) -> str:
    """Write text plain where YAML reads it back as the same text, else in double quotes."""
    if _PLAIN.fullmatch(text) and read_scalar(text) == text and text.lower() not in _OLD_WORDS:
        return text
    return _printable(json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
