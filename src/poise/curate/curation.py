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
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from poise.curate.step import Step, load_step
from poise.errors import RecipeError
from poise.names import did_you_mean, load_named, names_in
from poise.recipe_faults import UNKNOWN, explain
from poise.recipe_yaml import Fault, KeyPath, Place, YamlText, read_recipe_file, read_scalar
from poise.sources.dataset import About, checked_options, options_of

HIGHEST = 99
"""Confidence of rows that are held out."""


class Part(BaseModel):
    """A model of recipe keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceEntry(BaseModel):
    """One source. Keys beside these are the options of the catalog file that `source` names."""

    model_config = ConfigDict(frozen=True, extra="allow")

    source: str | None = None
    """A file of poise.catalog; without one, the columns say what the rows are."""
    path: str | None = None
    """A file or folder with the dataset's files, or a Hub id; the catalog's own Hub id where it is not given."""
    name: str | None = None
    """What the source is called in every count; `source`, or the path's last part, by default."""
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    """Branch, tag or commit on the Hub; the commit it meant is kept in the manifest."""
    against: str | None = None
    """The second dataset, for a source that compares two."""
    confidence: int | None = Field(default=None, ge=0, lt=HIGHEST)
    """Of rows with one question those of the highest confidence win; the catalog's value by default, else 2."""
    accept_risk: bool = False
    """Whether a source that must be asked for by name may be used."""
    on_bad_row: Literal["error", "drop"] = "error"
    case_matters: bool = False
    """Whether questions that differ in case alone are two, as in code."""
    count: int | None = Field(default=None, gt=0)
    """Keep so many rows of those that all steps have left, chosen by hash."""
    fraction: float | None = Field(default=None, gt=0, le=1)
    """Keep this share of them."""
    stratify: str | None = None
    """A column of the raw rows; `count` and `fraction` keep its shares."""
    held_out: bool = False
    """Whether all of it goes to the test split, as a published test split should: its rows win over equal ones, and
    every row that asks one of its questions is dropped."""
    repeat: float = Field(default=1.0, gt=0)
    """Write each row so many times; 2.5 is twice, and a third time for half of them."""

    @model_validator(mode="after")
    def _one_source(self) -> "SourceEntry":
        if self.source is None and self.path is None:
            raise ValueError("a source needs `source` (a name of the catalog) or `path`")
        if self.count is not None and self.fraction is not None:
            raise ValueError("count and fraction say the same thing; keep one")
        if self.held_out and (self.count is not None or self.fraction is not None or self.repeat != 1):
            raise ValueError("held_out takes the whole test split once; leave count, fraction and repeat out")
        if self.stratify is not None and self.source is None:
            raise ValueError("stratify reads a column of a catalog source's rows; name the `source`")
        if self.stratify is not None and self.count is None and self.fraction is None:
            raise ValueError("stratify keeps shares while sampling; give count or fraction")
        if self.source is None and self.options:
            raise ValueError(f"{UNKNOWN} {next(iter(self.options))!r}")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Keys of the catalog file's own."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def label(self) -> str:
        """What it is called in every count."""
        path = Path(self.path) if self.path else None
        return self.name or self.source or (path.name if path and path.exists() else str(self.path))

    @property
    def catalogued(self) -> ModuleType:
        """The catalog file, of an entry that names one."""
        return load_named("poise.catalog", str(self.source))

    @property
    def about(self) -> About | None:
        """What the catalog says of the dataset."""
        return None if self.source is None else self.catalogued.ABOUT

    @property
    def against_about(self) -> About | None:
        """What it says of the second dataset, for a source that compares two."""
        return None if self.source is None else getattr(self.catalogued, "AGAINST", None)

    @property
    def trust(self) -> int:
        """Confidence, the catalog's where the recipe gives none."""
        if self.held_out:
            return HIGHEST
        if self.confidence is not None:
            return self.confidence
        return self.about.confidence if self.about else 2


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

    def named_steps(self) -> list[tuple[str, Step]]:
        """Return every step with its name."""
        return [(name, load_step(name, keys)) for name, keys in map(_named, self.steps)]


def load_curation(path: Path, overrides: Sequence[str] = ()) -> Curation:
    """Read a recipe; RecipeError lists every mistake with its place."""
    text = read_recipe_file(path)
    values = dict(text.values)
    faults = list(text.faults)
    for override in overrides:
        key, _, value = override.removeprefix("--").partition("=")
        values[key] = read_scalar(value)
    try:
        curation = Curation(**values)
        faults += _named_faults(curation, text, path)
    except ValidationError as error:
        for at, what, remedy in explain(error, values):
            near = did_you_mean(str(at[-1]), _known(at)) if what.startswith(UNKNOWN) and at else ""
            faults.append(Fault(_place(text, at, path), what + near, remedy))
        curation = None
    if faults or curation is None:
        shown = "\n".join(str(fault) for fault in faults)
        raise RecipeError(f"{path.name}: {len(faults)} mistake{'s' if len(faults) > 1 else ''}\n{shown}")
    return curation


def _named_faults(curation: Curation, text: YamlText, path: Path) -> Iterator[Fault]:
    labels: dict[str, int] = {}
    for index, entry in enumerate(curation.sources):
        place = _place(text, ("sources", index), path)
        yield from _source_faults(entry, place)
        if entry.label in labels:
            yield Fault(place, f"two sources are called {entry.label!r}", "give one of them another `name`")
        labels[entry.label] = index
    seen: set[str] = set()
    for index, step in enumerate(curation.steps):
        place = _place(text, ("steps", index), path)
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
                yield Fault(_place(text, ("steps", index, name, *at), path), f"{name}: {what}", remedy)
        if name in seen:
            yield Fault(place, f"the step {name} is there twice", "keep one of the two")
        seen.add(name)


def _source_faults(entry: SourceEntry, place: Place) -> Iterator[Fault]:
    known = names_in("poise.catalog")
    if entry.source is None:
        return
    if entry.source not in known:
        near = did_you_mean(entry.source, known)
        yield Fault(place, f"the catalog has no source {entry.source!r}{near}", "`poise sources` lists them")
        return
    module = entry.catalogued
    options = options_of(module)
    for key in entry.options:
        if key not in options:
            near = did_you_mean(key, [*options, *SourceEntry.model_fields])
            yield Fault(place, f"source {entry.source} has no key {key!r}{near}")
            return
    try:
        checked_options(module, entry.options)
    except RecipeError as error:
        yield Fault(place, str(error))
    about: About = module.ABOUT
    if about.opt_in and not entry.accept_risk:
        yield Fault(place, f"{entry.source}: {about.risk}", "set accept_risk: true on it to use it all the same")
    if entry.against is not None and not hasattr(module, "AGAINST"):
        yield Fault(place, f"source {entry.source} compares with no second dataset", "leave `against` out")


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
    return list(Split.model_fields if path[0] == "split" else Curation.model_fields)


def _place(text: YamlText, path: KeyPath, file: Path) -> Place:
    for length in range(len(path), -1, -1):
        for places in (text.keys, text.places):
            if path[:length] in places:
                return places[path[:length]]
    return Place(file.name)
