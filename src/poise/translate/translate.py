"""Turn another tool's configuration into a recipe; say what was not carried over and what would have gone wrong."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from poise.dialects import FORCED, NO_EFFECT, REFUSED, RENAMED
from poise.errors import RecipeError
from poise.preflight.learning_rate import TOO_HIGH, published
from poise.recipe import load_recipe
from poise.recipe_faults import show
from poise.recipe_objective import objective_class
from poise.recipe_sections import DataSection, ModelSection, PoiseSection
from poise.recipe_yaml import write_entry
from poise.secrets import NAMED, redacted
from poise.training_fields import TRAINING_FIELDS
from poise.translate import axolotl, bagel, llamafactory, trl
from poise.translate.reading import Given, read
from poise.translate.tool import Setting, Tool, Unmapped, Values

MARKS: tuple[tuple[Tool, tuple[str, ...]], ...] = (
    (axolotl.TOOL, ("base_model", "micro_batch_size", "sequence_len")),
    (llamafactory.TOOL, ("finetuning_type", "stage", "cutoff_len", "dataset_dir", "lora_target")),
    (bagel.TOOL, ("model_max_len", "full_finetune", "final_output_dir", "eval_dataset_size", "workdir")),
    (trl.HANDBOOK, ("dataset_mixer", "datasets_mixer", "dataset_mixture", "preprocessing_num_workers")),
)
"""Keys by which a tool's configuration is told; TRL's has none of them."""


@dataclass(frozen=True)
class Translation:
    """A recipe and what is to be known about it."""

    tool: str
    verb: str
    settings: tuple[Setting, ...]
    unmapped: tuple[Unmapped, ...]
    risks: tuple[str, ...]

    def recipe(self, name: str) -> str:
        """Write the recipe, each value with the words it came from."""
        lines = [f"# {self.verb}, from {self.tool}'s {name}; start: poise {self.verb} THIS_FILE", ""]
        for setting in self.settings:
            lines += write_entry(setting.key, setting.value, setting.origin)
        if self.unmapped:
            lines += ["", "# not carried over"]
            lines += [f"# {_shown(each)}: {each.why}" for each in self.unmapped]
        if self.risks:
            lines += ["", f"# what would have gone wrong in {self.tool}, or will where a value is kept"]
            lines += [f"# {risk}" for risk in self.risks]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "tool": self.tool,
            "verb": self.verb,
            "settings": [asdict(setting) for setting in self.settings],
            "not_mapped": [asdict(each) for each in self.unmapped],
            "would_have_gone_wrong": list(self.risks),
        }


def init(source: str, out: Path | None, verb: str | None = None) -> dict[str, Any]:
    """Translate a configuration, write the recipe where it is asked for, and return it with both lists."""
    given = read(source)
    translation = translate(given, verb)
    text = translation.recipe(given.name)
    if out is not None:
        if out.exists():
            raise RecipeError(f"{out} is there already\n    to do:  name another file, or remove it")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    return translation.to_json() | {"recipe": text, "out": str(out) if out else None}


def translate(given: Given, verb: str | None = None) -> Translation:
    """Translate what was read; raises RecipeError for an objective that poise does not have."""
    tool = tool_of(given)
    values = {key: value for key, value in given.values.items() if key != "script" or given.values["script"]}
    verb = verb or tool.verb(values)
    found = list(_said(tool, verb, values, given))
    settings = {each.key: each for each in found if isinstance(each, Setting)}
    for key, value in tool.defaults(verb).items():
        if key not in settings and _acts(key, verb, settings):
            settings[key] = Setting(key, value, f"{tool.name}'s default")
    unmapped = [each for each in found if isinstance(each, Unmapped)]
    for key, why in _misfits(verb, settings):
        misfit = settings.pop(key)
        unmapped.append(Unmapped(misfit.origin, misfit.value, why))
    risks = [*_rate_risk(verb, settings), *tool.risks(verb, values)]
    ordered = sorted(settings.values(), key=lambda setting: _place(setting.key))
    return Translation(tool.name, verb, tuple(ordered), tuple(unmapped), tuple(risks))


def tool_of(given: Given) -> Tool:
    """Tell whose configuration it is by the keys that only one tool has."""
    return next((tool for tool, marks in MARKS if any(mark in given.values for mark in marks)), trl.TRL)


def _said(tool: Tool, verb: str, values: Values, given: Given) -> Iterator[Setting | Unmapped]:
    """Yield what becomes of every key; of two that lead to one key here, the later wins."""
    for key, value in values.items():
        if key in tool.structured or key == "script":
            continue
        place = f"{given.name}:{given.lines[key]} {key}" if key in given.lines else key
        yield from _one(tool, verb, key, value, place)
    for each in tool.structure(verb, values):
        if isinstance(each, Unmapped):
            yield replace(each, value=redacted(each.value))
        elif each.value is not None:
            line = given.lines.get(each.origin.split(":")[0].split(".")[0])
            yield replace(each, origin=f"{given.name}:{line} {each.origin}") if line else each


def _one(tool: Tool, verb: str, key: str, value: Any, place: str) -> Iterator[Setting | Unmapped]:
    here = tool.renamed.get(key, RENAMED.get(key, key))
    why = next((why for name, why in tool.unmapped.items() if fnmatchcase(key, name)), None)
    if NAMED.search(key):
        yield Unmapped(key, "(a secret, not shown)", "a recipe holds no secret; log in instead")
    elif key in tool.renamed or (why is None and key not in tool.foreign and here in known_keys(verb)):
        if value is not None:
            value = tool.values.get(here, {}).get(value, value) if not isinstance(value, list | dict) else value
            yield Setting(key if key in RENAMED else here, redacted(value), place)
    elif value in (None, False, "", [], {}, "no", "none"):
        return
    elif why is not None:
        if why:
            yield Unmapped(key, redacted(value), why)
    elif here in NO_EFFECT or here in FORCED or here in REFUSED:
        yield Unmapped(key, redacted(value), NO_EFFECT.get(here) or (FORCED.get(here) or REFUSED[here])[1])
    else:
        yield Unmapped(key, redacted(value), f"poise has nothing that {tool.name} means by it")


def known_keys(verb: str) -> set[str]:
    """List the keys that a recipe of an objective may have and that act."""
    own = {
        *ModelSection.model_fields,
        *DataSection.model_fields,
        *PoiseSection.model_fields,
        "loss_type",
        "loss_weights",
    }
    every = own | TRAINING_FIELDS.keys() | objective_class(verb).model_fields.keys()
    return every - NO_EFFECT.keys() - FORCED.keys() - REFUSED.keys()


def _acts(key: str, verb: str, settings: Mapping[str, Setting]) -> bool:
    """Say whether a default of the tool means something in this recipe."""
    if key.startswith("lora_"):
        return "use_peft" in settings
    aliases = {old for old, new in RENAMED.items() if new == key}
    return not aliases & settings.keys() and key in known_keys(verb) | RENAMED.keys()


def _misfits(verb: str, settings: Mapping[str, Setting]) -> Iterator[tuple[str, str]]:
    """Yield each key whose value poise does not take, and why; the caller takes it out, then the next is tried."""
    while True:
        overrides = {key: setting.value for key, setting in settings.items()}
        try:
            load_recipe(verb, None, defaults=overrides)
        except RecipeError as error:
            key, why = _blamed(str(error), settings)
            if not key:
                raise
            yield key, why
            continue
        return


def _blamed(error: str, settings: Mapping[str, Setting]) -> tuple[str, str]:
    """Find the first setting that an error of the recipe is about, and what it says of it."""
    lines = error.splitlines()
    for index, line in enumerate(lines):
        key = next((key for key in settings if f"from the caller: {key}=" in line), "")
        if key and key not in ("model_name_or_path", "dataset_name", "dataset_mixture", "dataset_mixer"):
            return key, lines[index + 1].strip() if index + 1 < len(lines) else "not accepted"
    return "", ""


def _rate_risk(verb: str, settings: Mapping[str, Setting]) -> Iterator[str]:
    rate = settings.get("learning_rate")
    tuning = "LoRA" if "use_peft" in settings and settings["use_peft"].value else "full"
    _, highest = published(verb, tuning, 0)
    try:
        times = float(rate.value) / highest if rate else 0.0
    except (TypeError, ValueError):
        return
    if times >= TOO_HIGH:
        method = "LoRA" if tuning == "LoRA" else "all weights trained"
        what = f"{times:.3g} times the highest published for {verb} with {method} ({highest:g})"
        yield f"learning_rate {show(settings['learning_rate'].value)} is {what}: such a rate ruins a model"


def _place(key: str) -> int:
    order = [*ModelSection.model_fields, *DataSection.model_fields]
    return order.index(RENAMED.get(key, key)) if RENAMED.get(key, key) in order else len(order)


def _shown(each: Unmapped) -> str:
    text = " ".join(str(each.value).split())
    return f"{each.key} {text if len(text) <= 60 else text[:59] + '…'}"
