"""The file of a pipeline: where it goes, what it starts from, and its stages in order.

out: my-model
model: HuggingFaceTB/SmolLM2-135M
train: {use_peft: true, chat_template: chatml}
stages:
- curate: recipes/curate/zephyr-sft.yaml
- sft: {recipe: recipes/smollm2-135m/sft/lora.yaml, num_train_epochs: 2}
- merge

A stage is a verb: alone, with a recipe file, or with keys of its recipe, among which `recipe` names a file under them.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from poise.dialects import RENAMED
from poise.errors import RecipeError
from poise.names import did_you_mean, load_named, names_in
from poise.recipe_draft import read_override
from poise.recipe_faults import show
from poise.recipe_sections import DATA_KEYS
from poise.recipe_yaml import Fault, KeyPath, Place, YamlText, read_recipe_file

STAGES, OBJECTIVES = "poise.pipeline.stages", "poise.objectives"
KEYS = ("out", "model", "questions", "train", "stages")
TEXTS = ("out", "model", "questions")
SETTLED = {
    "output_dir": "every stage has a folder of its own in `out`",
    "out": "every stage has a folder of its own in `out`",
}
"""Keys of recipes that a pipeline decides."""
FIRST = {"model_name_or_path": "write it as `model`, which the first stage starts from"} | dict.fromkeys(
    DATA_KEYS, "write it under the stage that trains on it"
)
"""Keys that cannot hold for all trainings."""


@dataclass(frozen=True)
class Step:
    """One line of the file."""

    name: str
    """`03-dpo`: also its folder in `out`."""
    verb: str
    folder: Path
    recipe: Path | None
    """The file under its keys."""
    keys: YamlText
    place: Place


@dataclass(frozen=True)
class Pipeline:
    """The file as it was read; what is wrong with it is in `faults`, so that its stages can be checked too."""

    path: Path
    out: Path
    model: str | None
    """What the first training starts from, where its recipe says nothing else."""
    questions: str | None
    """A file of questions that every training asks before and after."""
    train: YamlText
    """Keys of all trainings, under each one's own and above its recipe file."""
    steps: tuple[Step, ...]
    faults: list[Fault] = field(default_factory=list[Fault])


def read_pipeline(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline; overrides are `out=…`, `train.KEY=…`, `sft.KEY=…` or `03-sft.KEY=…`."""
    text = read_recipe_file(path)
    faults = [*text.faults, *_own_faults(text, path.name)]
    values = {key: value if isinstance(value := text.values.get(key), str) else "" for key in TEXTS}
    train = _mapping(text, ("train",))
    steps = [step for index in range(len(_stages(text))) if (step := _step(text, index, values["out"], faults))]
    if steps and "report" not in [step.verb for step in steps]:
        steps.append(_plain_step(len(steps) + 1, "report", values["out"]))
    for override in overrides:
        _override(override, values, train, steps, faults)
    if values["out"] != text.values.get("out"):  # an override moved it
        steps = [_moved(step, values["out"]) for step in steps]
    faults += _settled_faults(train, steps)
    out, model, questions = (values[key] for key in TEXTS)
    return Pipeline(path, Path(out), model or None, questions or None, train, tuple(steps), faults)


def verbs() -> list[str]:
    """List everything that can be a stage."""
    return [*names_in(STAGES), *names_in(OBJECTIVES)]


def _own_faults(text: YamlText, name: str) -> Iterator[Fault]:
    for key in text.values:
        if key not in KEYS:
            what = f"unknown key {key!r}{did_you_mean(key, KEYS)}"
            yield Fault(text.keys[(key,)], what, f"keys are {', '.join(KEYS)}")
    for key in TEXTS:
        value = text.values.get(key)
        if value is not None and not (isinstance(value, str) and value):
            yield Fault(text.places[(key,)], f"expected text, got {show(value)}")
    if "out" not in text.values:
        yield Fault(Place(name), "'out' is missing", "add a line `out: …`, the folder that everything goes to")
    if not isinstance(text.values.get("train", {}), dict):
        yield Fault(text.places[("train",)], "expected keys with values", "write train: {use_peft: true}")
    stages = text.values.get("stages")
    if not isinstance(stages, list) or not stages:
        place = text.places.get(("stages",), Place(name))
        yield Fault(place, "there are no stages", "write stages: [curate: …, sft: …], a list")


def _stages(text: YamlText) -> list[Any]:
    stages = text.values.get("stages")
    return cast("list[Any]", stages) if isinstance(stages, list) else []


def _mapping(text: YamlText, path: KeyPath) -> YamlText:
    """Return the keys at a path, none where something else stands there."""
    value: Any = text.values
    for step in path:
        value = (
            cast("Any", value)[step] if isinstance(value, list) or (isinstance(value, dict) and step in value) else None
        )
    return copy.deepcopy(text.under(path)) if isinstance(value, dict) else YamlText({})


def _step(text: YamlText, index: int, out: str, faults: list[Fault]) -> Step | None:
    """Read one line: `verb`, `verb: file`, or `verb: {keys}`."""
    item = _stages(text)[index]
    at: KeyPath = ("stages", index)
    place = text.places[at]
    if isinstance(item, dict) and len(cast("dict[str, Any]", item)) == 1:
        verb, value = next(iter(cast("dict[str, Any]", item).items()))
        place = text.keys[(*at, verb)]
    elif isinstance(item, str):
        verb, value = item, None
    else:
        faults.append(Fault(place, "a stage is a verb, or one verb with its recipe", "write `- sft: recipe.yaml`"))
        return None
    if verb not in verbs():
        known = ", ".join(names_in(STAGES))
        remedy = f"there are {known}, and every training: cpt, sft, dpo, …"
        faults.append(Fault(place, f"there is no stage {verb!r}{did_you_mean(verb, verbs())}", remedy))
        return None
    keys = _mapping(text, (*at, verb))
    if value is not None and not isinstance(value, dict):
        main = "recipe" if verb not in names_in(STAGES) else load_named(STAGES, verb).MAIN_KEY
        where = text.places[(*at, verb)]
        keys = YamlText({main: value}, {(main,): where}, {(main,): where})
    name = f"{index + 1:02d}-{verb}"
    return Step(name, verb, Path(out) / name, _recipe(verb, keys, faults), keys, place)


def _recipe(verb: str, keys: YamlText, faults: list[Fault]) -> Path | None:
    """Take the recipe file out of a stage's keys."""
    if "recipe" not in keys.values:
        return None
    value, place = keys.values.pop("recipe"), keys.places[("recipe",)]
    if not isinstance(value, str):
        faults.append(Fault(place, f"expected the path of a recipe, got {show(value)}"))
    elif verb in names_in(STAGES) and load_named(STAGES, verb).MAIN_KEY != "recipe":
        faults.append(Fault(place, f"{verb} has no recipe file", "write its keys here"))
    elif not Path(value).is_file():
        faults.append(Fault(place, f"there is no file {value}", "the path is read from where you are"))
    else:
        return Path(value)
    return None


def _plain_step(number: int, verb: str, out: str) -> Step:
    name = f"{number:02d}-{verb}"
    return Step(name, verb, Path(out) / name, None, YamlText({}), Place(f"stage {number}"))


def _moved(step: Step, out: str) -> Step:
    return Step(step.name, step.verb, Path(out) / step.name, step.recipe, step.keys, step.place)


def _override(
    override: str, values: dict[str, str], train: YamlText, steps: Sequence[Step], faults: list[Fault]
) -> None:
    """Apply one `key=value` of the command line."""
    place = Place(f"on the command line: {override}")
    head, equals, said = override.removeprefix("--").partition("=")
    if head in TEXTS and said:
        values[head] = said
        return
    who, dot, key = head.partition(".")
    chosen = [train] if who == "train" else [step.keys for step in steps if who in (step.name, step.verb)]
    if not (equals and dot and key and chosen):
        known = dict.fromkeys([*TEXTS, "train.KEY", *(f"{step.verb}.KEY" for step in steps)])
        faults.append(Fault(place, f"{head!r} is no key of this pipeline", f"there are {', '.join(known)}"))
    for keys in chosen if key else []:
        keys.values[key] = read_override(said)
        keys.keys[(key,)] = keys.places[(key,)] = place


def _settled_faults(train: YamlText, steps: Sequence[Step]) -> Iterator[Fault]:
    for key in train.values:
        why = (FIRST | SETTLED).get(RENAMED.get(key, key))
        if why:
            yield Fault(train.keys[(key,)], f"{key!r} cannot be the same for all trainings", why)
    for step in steps:
        for key in step.keys.values:
            if key in SETTLED:
                yield Fault(step.keys.keys[(key,)], f"a stage has no {key!r}", SETTLED[key])


def refuse(pipeline: Pipeline, told: Sequence[str]) -> None:
    """Raise RecipeError where the file, or a stage as `told` by its own check, is wrong."""
    faults = [str(fault) for fault in pipeline.faults]
    if not faults and not told:
        return
    own = f"{pipeline.path} has {len(faults)} problem{'s' if len(faults) > 1 else ''}:"
    raise RecipeError("\n".join([*([own, *faults] if faults else []), *told]))
