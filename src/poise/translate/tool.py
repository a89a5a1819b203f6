"""What one tool's configuration means here: the form that every file of a tool fills in."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """One line of the recipe: a key and value of poise, and the words of the tool they came from."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Unmapped:
    """Something said to the tool that the recipe does not say, and why."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Tool:
    """The tables of one tool."""

    name: str
    verb: Callable[[Values], str]
    """Which objective a configuration means; raises RecipeError where poise has none like it."""
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Key there -> key here, where the value means the same."""
    values: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict[str, Mapping[Any, Any]])
    """Key here -> what some values of the tool are called here."""
    unmapped: Mapping[str, str] = field(default_factory=dict[str, str])
    """Key there -> why the recipe need not or cannot say it. A key ending in `*` stands for all that begin so."""
    foreign: frozenset[str] = frozenset()
    """Keys that are spelled like one of poise's and mean something else there."""
    defaults: Callable[[str], Mapping[str, Any]] = lambda verb: {}
    """What the tool does where nothing is said and poise would do otherwise, by objective; keys of poise."""
    structure: Callable[[str, Values], Iterator[Setting | Unmapped]] = lambda verb, values: iter(())
    """Read the keys that mean something only together, such as data and adapters."""
    structured: frozenset[str] = frozenset()
    """The keys that `structure` reads."""
    risks: Callable[[str, Values], Iterator[str]] = lambda verb, values: iter(())
    """What would have gone wrong there, in sentences."""
