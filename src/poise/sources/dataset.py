"""What a file of poise.catalog says of its dataset, and how rows of a fixed schema become Examples.

A catalog file has an `ABOUT` and one of two functions; their keyword arguments are recipe keys of the source:

    def read(row: SourceRow, *, letter_only: float = 0.5) -> Example            each row for itself
    def read_all(rows: Iterable[SourceRow]) -> Iterator[Outcome]                rows that need one another

`read` raises NothingToLearn to leave a row out and RowError where a value breaks the format. `read_all` gives every
Example the places of the rows it was made from as lineage, and says of every other row why it was Left, or Bad.
"""

import hashlib
import inspect
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Annotated, Any, cast, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from poise.errors import RecipeError
from poise.examples import Conversation, Document, Example, LabeledConversation, Message, PreferencePair, RankedAnswers
from poise.names import did_you_mean
from poise.sources.refusal import NothingToLearn, RowError
from poise.sources.turns import refuse_surrogates

Schema = Mapping[str, Any]
"""Column -> kind: a type (`str`, `int`, `float`, `bool`), `[kind]` for a list, `{name: kind}` for an object, and a
tuple of kinds for any of them, `(str, None)` for text that may be null."""

Probability = Annotated[float, Field(ge=0, le=1)]
"""Of a recipe key that says how often a variant is drawn."""
Sides = tuple[tuple[Message, ...], tuple[Message, ...]]
NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class About:
    """A dataset: where it is, what its rows hold, and what to know before training on it."""

    hub: str
    """Id on the Hub."""
    columns: Schema
    """What is read of a row; further columns do no harm."""
    licence: str
    """As its card says, an SPDX id where there is one."""
    config: str | None = None
    split: str = "train"
    files: tuple[str, ...] = ()
    """The data files in its repository, where `load_dataset` alone would not find the right ones."""
    confidence: int = 2
    """Which source wins where several hold one question; the highest does. bagel's values, 1 to 3."""
    risk: str | None = None
    """What may go wrong by training on it, in a sentence for the card."""
    opt_in: bool = False
    """Whether a recipe must accept the risk by `accept_risk: true`."""


@dataclass(frozen=True)
class SourceRow:
    """One row of the dataset as it is stored."""

    place: str
    """`table:row`, from 1."""
    columns: dict[str, Any]
    seed: int = 0

    def __getitem__(self, column: str) -> Any:
        return self.columns[column]

    @cached_property
    def digest(self) -> str:
        """Hash of what the row holds: the same row has the same, wherever it stands."""
        canonical = json.dumps(self.columns, sort_keys=True, ensure_ascii=True, default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @cached_property
    def chance(self) -> random.Random:
        """Randomness of this row alone: neither its place nor other rows change what is drawn."""
        return random.Random(f"{self.seed} {self.digest}")


@dataclass(frozen=True)
class Left:
    """A sound row that became no Example."""

    place: str
    reason: str
    """A short fixed phrase that can be counted."""
    evidence: str = ""


@dataclass(frozen=True)
class Bad:
    """A row that does not fit the dataset's schema."""

    place: str
    error: RowError


Outcome = Example | Left | Bad


def read_rows(
    module: ModuleType,
    rows: Iterable[tuple[str, "dict[str, Any] | RowError"]],
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    others: Iterable[tuple[str, "dict[str, Any] | RowError"]] | None = None,
) -> Iterator[Outcome]:
    """Turn (place, row) into what becomes of each; an Example has its lineage, not yet its source.

    `others` are rows of the module's `AGAINST`, a second dataset that it compares with.
    """
    about: About = module.ABOUT
    options = checked_options(module, options or {})
    bad: list[Bad] = []
    sound = _sound(rows, about.columns, seed, bad)
    if hasattr(module, "read"):
        yield from _each(module.read, sound, bad, options)
        return
    if hasattr(module, "AGAINST"):
        options = {**options, "others": _sound(others or (), module.AGAINST.columns, seed, bad)}
    for outcome in cast("Iterator[Example | Left | Bad]", module.read_all(sound, **options)):
        yield from _emptied(bad)
        yield outcome
    yield from _emptied(bad)


def options_of(module: ModuleType) -> dict[str, inspect.Parameter]:
    """Return the recipe keys that a catalog file's function has."""
    function: Callable[..., Any] = module.read if hasattr(module, "read") else module.read_all
    parameters = inspect.signature(function).parameters
    return {name: each for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY and name != "others"}


def checked_options(module: ModuleType, given: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse keys that the source does not have."""
    known = options_of(module)
    for name in given:
        if name not in known:
            source = module.__name__.rpartition(".")[2]
            keys = ", ".join(known) or "none of its own"
            raise RecipeError(f"source {source} has no key {name!r}{did_you_mean(name, known)}; it has {keys}")
    return {name: _option(module, known[name], value) for name, value in given.items()}


def _option(module: ModuleType, parameter: inspect.Parameter, value: Any) -> Any:
    """Check a recipe key's value against its annotation."""
    kind = get_type_hints(module.read if hasattr(module, "read") else module.read_all, include_extras=True)
    try:
        return TypeAdapter(kind[parameter.name]).validate_python(value)
    except ValidationError as error:
        told = error.errors(include_url=False)[0]["msg"]
        source = module.__name__.rpartition(".")[2]
        raise RecipeError(f"source {source}: {parameter.name}: {value!r}: {told}") from None


def check(columns: Mapping[str, Any], schema: Schema) -> None:
    """Raise RowError where a value is missing or of another kind than the schema says."""
    for name, kind in schema.items():
        if name not in columns:
            near = did_you_mean(name, columns)
            raise RowError(
                "missing column",
                f" {name}",
                f"there is no column {name!r}{near}; this row has {', '.join(map(repr, columns)) or 'nothing'}",
                "this source reads the columns of the published dataset",
                "load the published files, or write the rows as the source's documentation shows",
            )
        _check(columns[name], kind, name)


def _check(value: Any, kind: Any, where: str) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not any(_fits(value, each) for each in kinds):
        if value is None:
            raise RowError(
                "null value", f" {where}", "null where a value is expected", "it cannot be guessed", "leave the row out"
            )
        raise RowError(
            "wrong type",
            f" {where}",
            f"{_described(value)} where {' or '.join(map(_named, kinds))} is expected",
            "a value is not converted, because its meaning would be guessed",
            "load the published files, or write the value in the kind that is expected",
        )
    if isinstance(value, str):
        refuse_surrogates(value, where)
    inner = next(each for each in kinds if _fits(value, each))
    if isinstance(inner, list):
        for index, item in enumerate(value):
            _check(item, inner[0], f"{where}[{index}]")
    elif isinstance(inner, dict):
        held = cast("dict[str, Any]", value)
        for name, part in cast("dict[str, Any]", inner).items():
            if name not in held:
                raise RowError(
                    "missing field",
                    f" {where}.{name}",
                    f"there is no {name!r}; it has {', '.join(map(repr, held)) or 'nothing'}",
                    "this source reads the fields of the published dataset",
                    "load the published files",
                )
            _check(held[name], part, f"{where}.{name}")


def _fits(value: Any, kind: Any) -> bool:
    if kind is None or value is None:
        return kind is None and value is None
    if isinstance(kind, list):
        return isinstance(value, list)
    if isinstance(kind, dict):
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _named(kind: Any) -> str:
    if isinstance(kind, list):
        return "a list"
    if isinstance(kind, dict):
        return "an object"
    return "null" if kind is None else NAMES[kind]


def _described(value: Any) -> str:
    names = {"str": "text", "list": "a list", "dict": "an object", "bool": "true or false", "int": "a number",
             "float": "a number"}  # fmt: skip
    return names.get(type(value).__name__, type(value).__name__)


def _sound(
    rows: Iterable[tuple[str, "dict[str, Any] | RowError"]], schema: Schema, seed: int, bad: list[Bad]
) -> Iterator[SourceRow]:
    """Yield the rows that fit the schema, the others go to `bad`."""
    for place, columns in rows:
        if isinstance(columns, RowError):
            bad.append(Bad(place, columns))
            continue
        try:
            check(columns, schema)
        except RowError as error:
            bad.append(Bad(place, error))
        else:
            yield SourceRow(place, columns, seed)


def _each(
    read: Callable[..., Example], rows: Iterable[SourceRow], bad: list[Bad], options: Mapping[str, Any]
) -> Iterator[Outcome]:
    for row in rows:
        yield from _emptied(bad)
        try:
            yield _teaching(replace(read(row, **options), lineage=(row.place,)))
        except NothingToLearn as verdict:
            yield Left(row.place, verdict.reason, verdict.evidence)
        except RowError as error:
            yield Bad(row.place, error)
    yield from _emptied(bad)


def _teaching(example: Example) -> Example | Left:
    """Leave out what asks or answers nothing."""
    if isinstance(example, Document):
        empty = "" if example.text.strip() else "empty text"
    else:
        asked, wanted = _sides(example)
        empty = "" if any(turn.content.strip() for turn in asked) else "empty prompt"
        empty = empty or ("" if wanted and wanted[-1].content.strip() else "empty completion")
    return Left(example.place, empty) if empty else example


def _sides(example: Conversation | PreferencePair | LabeledConversation | RankedAnswers) -> Sides:
    """Return the turns that are asked and those that are wanted in answer."""
    if isinstance(example, PreferencePair):
        return example.prompt, example.chosen
    if isinstance(example, RankedAnswers):
        return example.prompt, example.answers[0]
    asked = tuple(message for message in example.messages if message.role != "assistant")
    return asked, tuple(message for message in example.messages if message.role == "assistant")


def _emptied(bad: list[Bad]) -> Iterator[Bad]:
    yield from bad
    bad.clear()
