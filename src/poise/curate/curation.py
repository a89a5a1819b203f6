"""The recipe of a curation: sources, steps and outputs, read from YAML with the place of every mistake.

out: my-data
seed: 42
sources:
  - {source: ai2_arc, confidence: 3}
  - {source: slimorca, path: downloads/slimorca, count: 200000}
  - {path: my.jsonl}
steps:
  - exact
  - near_duplicates: {threshold: 0.6}
  - decontaminate: {benchmarks: [gsm8k, mmlu]}
split: {test: 0.01}
formats: {use: [alpaca, vicuna, llama-2, chatml], policy: slices}
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from poise.curate.entry import SourceEntry
from poise.curate.formats import Formats
from poise.curate.mixing import KEYS as MIXING_KEYS
from poise.curate.mixing import mix
from poise.curate.overrides import names_a_list, override
from poise.curate.step import Step, load_step, step_class
from poise.errors import RecipeError
from poise.names import did_you_mean, names_in
from poise.recipe_faults import UNKNOWN, explain
from poise.recipe_yaml import Fault, KeyPath, Place, YamlText, read_recipe_file
from poise.sources.dataset import About, checked_options, options_of


class Part(BaseModel):
    """A model of recipe keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Split(Part):
    """What is held out: whole questions, chosen by hash, before any row is repeated or formatted."""

    test: float = Field(gt=0)
    """A share of the questions below 1, or so many rows."""


class RayCluster(Part):
    """A cluster to run on."""

    ray: str | None = None
    """Its address, such as `ray://head:10001`; a local cluster is started without one."""


class Curation(Part):
    """The whole recipe."""

    out: str
    """The folder that everything goes to."""
    title: str | None = None
    """Of the dataset card."""
    seed: int = 42
    engine: Literal["native", "ray"] | RayCluster = "native"
    sources: tuple[SourceEntry, ...] = Field(min_length=1)
    steps: tuple[Any, ...] = ("exact",)
    """Names of poise.curate.steps, each alone or with its keys; in this order."""
    split: Split | None = None
    formats: Formats | None = None
    """In which prompt formats rows are written, the last thing of all; in that of the model where it is not given."""

    def named_steps(self) -> list[tuple[str, Step]]:
        """Return every step with its name."""
        return [(name, load_step(name, keys)) for name, keys in map(_named, self.steps)]


def load_curation(path: Path, overrides: Sequence[str] = ()) -> Curation:
    """Read a recipe; RecipeError lists every mistake with its place."""
    text = read_recipe_file(path)
    return read_curation(text, path.name, overrides)


def read_curation(text: YamlText, name: str, overrides: Sequence[str] = ()) -> Curation:
    """Check what a recipe called `name` says; RecipeError lists every mistake with its place."""
    faults = list(text.faults)
    faults += override(text, [each for each in overrides if not names_a_list(each)])
    faults += mix(text)
    faults += override(text, [each for each in overrides if names_a_list(each)])
    values = text.values
    try:
        curation = Curation(**values)
        faults += _named_faults(curation, text, name)
    except ValidationError as error:
        for at, what, remedy in explain(error, values):
            near = did_you_mean(str(at[-1]), _known(at)) if what.startswith(UNKNOWN) and at else ""
            faults.append(Fault(_place(text, at, name), what + near, remedy))
        curation = None
    if faults or curation is None:
        shown = "\n".join(str(fault) for fault in faults)
        raise RecipeError(f"{name}: {len(faults)} mistake{'s' if len(faults) > 1 else ''}\n{shown}")
    return curation


def _named_faults(curation: Curation, text: YamlText, file: str) -> Iterator[Fault]:
    labels: dict[str, int] = {}
    for index, entry in enumerate(curation.sources):
        place = _place(text, ("sources", index), file)
        for key, what, remedy in _source_faults(entry):
            yield Fault(_place(text, ("sources", index, *key), file), what, remedy)
        if entry.label in labels:
            yield Fault(place, f"two sources are called {entry.label!r}", "give one of them another `name`")
        labels[entry.label] = index
    seen: set[str] = set()
    for index, step in enumerate(curation.steps):
        place = _place(text, ("steps", index), file)
        try:
            name, keys = _named(step)
        except RecipeError as error:
            yield Fault(place, str(error))
            continue
        try:
            load_step(name, keys)
        except RecipeError as error:
            yield Fault(place, str(error))
        except ValidationError as error:
            for at, what, remedy in explain(error, keys):
                is_key = what.startswith(UNKNOWN) and len(at) == 1
                near = did_you_mean(str(at[0]), step_class(name).model_fields) if is_key else ""
                yield Fault(_place(text, ("steps", index, name, *at), file), f"{name}: {what}{near}", remedy)
        if name in seen:
            yield Fault(place, f"the step {name} is there twice", "keep one of the two")
        seen.add(name)


def _source_faults(entry: SourceEntry) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield (key, sentence, remedy) of what the catalog knows to be wrong; no key, where the entry as a whole is."""
    known = names_in("poise.catalog")
    if entry.source is None:
        return
    if entry.source not in known:
        near = did_you_mean(entry.source, known)
        yield (), f"the catalog has no source {entry.source!r}{near}", "`poise sources` lists them"
        return
    module = entry.catalogued
    options = options_of(module)
    for key in entry.options:
        if key not in options:
            near = did_you_mean(key, [*options, *SourceEntry.model_fields])
            yield (key,), f"source {entry.source} has no key {key!r}{near}", ""
            return
    try:
        checked_options(module, entry.options)
    except RecipeError as error:
        yield (), str(error), ""
    about: About = module.ABOUT
    if about.opt_in and not entry.accept_risk:
        yield (), f"{entry.source}: {about.risk}", "set accept_risk: true on it to use it all the same"
    if entry.against is not None and not hasattr(module, "AGAINST"):
        yield ("against",), f"source {entry.source} compares with no second dataset", "leave `against` out"


def _named(step: Any) -> tuple[str, dict[str, Any]]:
    """Split `name` or `{name: {keys}}`."""
    if isinstance(step, str):
        return step, {}
    if isinstance(step, Mapping) and len(cast("Mapping[str, Any]", step)) == 1:
        name, keys = next(iter(cast("Mapping[str, Any]", step).items()))
        return str(name), dict(keys or {})
    raise RecipeError("a step is a name, or one name with its keys: `- exact: {key: row}`")


def _known(path: KeyPath) -> list[str]:
    if path[0] == "sources":
        return list(SourceEntry.model_fields)
    parts: dict[Any, type[BaseModel]] = {"split": Split, "formats": Formats}
    return list(parts[path[0]].model_fields) if path[0] in parts else [*Curation.model_fields, *MIXING_KEYS]


def _place(text: YamlText, path: KeyPath, file: str) -> Place:
    for length in range(len(path), -1, -1):
        for places in (text.keys, text.places):
            if path[:length] in places:
                return places[path[:length]]
    return Place(file)
