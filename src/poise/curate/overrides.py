"""Keys of a curation recipe on the command line: steps by their names, sources by what they are called.

poise curate recipe.yaml out=other steps.near_duplicates.threshold=0.7 sources.slimorca.count=1000 split.test=0.01
"""

from collections.abc import Iterable, Iterator
from typing import Any, cast

from poise.curate.entry import label_of
from poise.errors import RecipeError
from poise.names import did_you_mean
from poise.recipe_draft import put, read_override
from poise.recipe_yaml import Fault, KeyPath, Place, YamlText

LISTS = ("sources", "steps")
"""Keys whose parts have names; they are overridden once the recipe's data is mixed."""
WHOLE_NAMES = "dataset_mixer"
"""A key within which a dot is part of a name."""


def override(text: YamlText, overrides: Iterable[str]) -> Iterator[Fault]:
    """Change what a recipe says, and note for every changed value that its place is the command line."""
    for given in overrides:
        head, equals, value = given.removeprefix("--").partition("=")
        place = Place(f"on the command line: {given}")
        try:
            if not head or not equals:
                raise RecipeError("expected key=value")
            path = _path(text.values, head)
            if not put(text.values, [str(step) for step in path], read_override(value)):
                raise RecipeError(f"there is no {head!r} to override")
        except RecipeError as error:
            yield Fault(place, str(error))
            continue
        text.keys[path] = text.places[path] = place


def names_a_list(override: str) -> bool:
    """Whether an override is about one of the parts that have names."""
    return override.removeprefix("--").partition("=")[0].partition(".")[0] in LISTS


def _path(values: dict[str, Any], head: str) -> KeyPath:
    key, *inner = head.split(".")
    key = key.replace("-", "_")
    if not inner:
        return (key,)
    if key == WHOLE_NAMES:
        return (key, ".".join(inner))
    if key == "sources":
        return _source(values.get(key), inner)
    if key == "steps":
        return _step(values.setdefault(key, ["exact"]), inner)
    return (key, *(int(step) if step.isdecimal() else step for step in inner))


def _source(sources: Any, inner: list[str]) -> KeyPath:
    """Find a source by what it is called, in which there may be dots, or by its number from 0."""
    listed: list[Any] = sources if isinstance(sources, list) else []
    labels = [_label(entry) for entry in listed]
    for length in range(len(inner) - 1, 0, -1):
        name = ".".join(inner[:length])
        if name in labels:
            return ("sources", labels.index(name), *inner[length:])
    if inner[0].isdecimal() and int(inner[0]) < len(listed) and inner[1:]:
        return ("sources", int(inner[0]), *inner[1:])
    if ".".join(inner) in labels:
        raise RecipeError(f"say which key of the source: sources.{'.'.join(inner)}.count=…")
    name = ".".join(inner[:-1]) or inner[0]
    near = did_you_mean(name, labels)
    raise RecipeError(f"the recipe has no source {name!r}{near}; there are {', '.join(labels) or 'none'}")


def _label(entry: Any) -> str:
    keys: dict[str, Any] = entry if isinstance(entry, dict) else {}
    return label_of(keys.get("name"), keys.get("source"), keys.get("path"))


def _step(steps: Any, inner: list[str]) -> KeyPath:
    """Find a step by its name; one that is there without keys gets some."""
    listed: list[Any] = steps if isinstance(steps, list) else []
    names = [next(iter(cast("dict[str, Any]", step)), "") if isinstance(step, dict) else step for step in listed]
    if inner[0] not in names:
        near = did_you_mean(inner[0], map(str, names))
        raise RecipeError(
            f"the recipe has no step {inner[0]!r}{near}; there are {', '.join(map(str, names)) or 'none'}. "
            "A step that is not there is added in the recipe, where its order is seen, or with the whole list: "
            "steps=[exact, near_duplicates]"
        )
    at = names.index(inner[0])
    if not isinstance(listed[at], dict) or listed[at][inner[0]] is None:
        listed[at] = {inner[0]: {}}
    return ("steps", at, *(int(step) if step.isdecimal() else step for step in inner))
