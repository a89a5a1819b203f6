"""A recipe: one flat YAML file plus overrides becomes a frozen Recipe in which every value knows its origin.

    poise dpo zephyr.yaml learning_rate=1e-6

Each key belongs to one section: model, data, the objective's class, poise's trainer, or transformers'
TrainingArguments. A key acts, is noted with the reason why it need not, or is an error; all errors are told at once.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from poise.dialects import FORCED, FOREIGN, NO_EFFECT, REFUSED, RENAMED, REPLACED, TRACKERS
from poise.errors import RecipeError
from poise.names import did_you_mean
from poise.recipe_defaults import MAX_LENGTH, default_training
from poise.recipe_draft import LAYERS, Draft, Note, Origin, Setting
from poise.recipe_faults import UNKNOWN, explain, mentions, reject, show
from poise.recipe_objective import owners_of, resolve_objective, settle_margin
from poise.recipe_sections import (
    DATA_KEYS,
    DataSection,
    DatasetEntry,
    DatasetMixture,
    DatasetPart,
    ModelSection,
    PoiseSection,
)
from poise.recipe_yaml import Fault, KeyPath, Place, read_recipe_file, write_entry
from poise.training_fields import TRAINING_FIELDS

if TYPE_CHECKING:  # the objective's own file imports torch, and only once the recipe names it
    from poise.batch.objective import Objective

__all__ = [
    "DataSection",
    "DatasetPart",
    "ModelSection",
    "Note",
    "Origin",
    "PoiseSection",
    "Recipe",
    "chat_template_names",
    "load_recipe",
]

SectionT = TypeVar("SectionT", bound=BaseModel)
_NESTED_KEYS = (*DatasetEntry.model_fields, *DatasetMixture.model_fields)


class Recipe(BaseModel):
    """The whole configuration of a run; `training` holds keyword arguments of TrainingArguments and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    verb: str
    name: str
    model: ModelSection
    data: DataSection
    if TYPE_CHECKING:
        objective: Objective
    else:
        objective: BaseModel
    poise: PoiseSection
    training: Mapping[str, Any]
    origins: Mapping[str, Origin]
    notes: tuple[Note, ...]

    def describe(self) -> list[tuple[str, str, Any, str]]:
        """List (section, key, value, origin) of everything that acts, in the order of the sections."""
        return [
            (section, key, value, str(self.origins[key]))
            for section, values in self.sections().items()
            for key, value in values.items()
            if key in self.origins
        ]

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return every value as plain data, by section."""
        own = {"model": self.model, "data": self.data, "objective": self.objective, "poise": self.poise}
        plain = {
            name: {key: _plain(getattr(section, key)) for key in type(section).model_fields}
            for name, section in own.items()
        }
        return plain | {"training": dict(self.training)}

    def resolved_yaml(self) -> str:
        """Write the recipe so that loading it again gives the same values, each with its origin beside it."""
        lines = [f"# poise {self.verb} {self.name}: every value and where it came from".rstrip()]
        section = ""
        for name, key, value, origin in self.describe():
            if name != section:
                section = name
                lines += ["", f"# {name}"]
            lines += write_entry(key, value, origin)
        if self.notes:
            lines += ["", "# accepted, and not acting as written"]
            lines += [f"# {' '.join(str(note).split())}" for note in self.notes]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON-ready data, origins and notes included."""
        told = {"verb": self.verb, "name": self.name, **self.sections()}
        origins = {key: str(origin) for key, origin in self.origins.items()}
        return told | {"origins": origins, "notes": [dataclasses.asdict(note) for note in self.notes]}


def load_recipe(
    verb: str,
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    defaults: Mapping[str, Any] | None = None,
    stage: Callable[[Draft], None] | None = None,
) -> Recipe:
    """Resolve a recipe: `defaults` < file < overrides (`key=value`, `--key=value`, `dataset_mixture.seed=1`).

    `stage` adds what a pipeline says of one of its stages, above the file. Raises RecipeError, which names every
    problem with its place, before anything heavy is loaded.
    """
    draft = Draft(path)
    draft.add_caller(defaults or {})
    if path is not None:
        draft.add_file(read_recipe_file(path))
    if stage is not None:
        stage(draft)
    for override in overrides:
        draft.add_override(override)
    recipe = _resolve(verb, draft)
    if recipe is None:
        raise RecipeError(draft.problems())
    return recipe


def output_folder(verb: str, path: Path | None, overrides: Sequence[str] = ()) -> Path:
    """Return where a run would write, by a look at the keys alone, before anything that takes time is imported."""
    draft = Draft(path)
    if path is not None:
        draft.add_file(read_recipe_file(path))
    for override in overrides:
        draft.add_override(override)
    said = draft.settings.get("output_dir")
    name = path.stem if path else ""
    return Path(str(said.value if said else next(default_training(verb, "full", name))[1]))


def _resolve(verb: str, draft: Draft) -> Recipe | None:
    """Build the recipe, or return None with the faults in the draft."""
    objective_class, verb = resolve_objective(verb, draft)
    settle_margin(draft, objective_class)
    _replace_data(draft)
    _apply_dialects(draft)
    _blame_unknown(draft, verb, objective_class)
    model = _section(draft, ModelSection)
    _default_max_length(draft, objective_class.unit)
    data = _section(draft, DataSection)
    objective = _section(draft, objective_class)
    poise = _section(draft, PoiseSection)
    _settle_trackers(draft)
    _settle_chat_template(draft)
    training, defaults = _training(draft, verb, model.tuning if model else "full")
    if not (model and data and objective and poise) or training is None or draft.faults:
        return None
    _check_together(draft, model, data, objective, training)
    idle = dict(_idle_keys(model, data, objective, training["report_to"]))
    for key in [key for key in draft.settings if key in idle]:
        draft.note(draft.settings[key], idle[key])
    if draft.faults:
        return None
    origins = defaults | {key: setting.origin for key, setting in draft.settings.items()}
    told: dict[str, str] = getattr(objective_class, "shared_defaults", {})
    for section in (model, data, objective, poise):
        shown = (key for key in type(section).model_fields if getattr(section, key) is not None and key not in idle)
        origins |= {key: Origin("default", told.get(key, "default")) for key in shown if key not in origins}
    return Recipe(
        verb=verb, name=draft.path.stem if draft.path else "", model=model, data=data, objective=objective,
        poise=poise, training=training, origins=origins, notes=tuple(draft.notes),
    )  # fmt: skip


def _replace_data(draft: Draft) -> None:
    """Let a later layer name the data in another way; what a former layer said about data then falls away."""
    given = {way: LAYERS.index(draft.settings[way].origin.kind) for way in DATA_KEYS if way in draft.settings}
    for way, keys in DATA_KEYS.items():
        for key in sorted(keys & draft.settings.keys()):
            layer = LAYERS.index(draft.settings[key].origin.kind)
            winners = [other for other, at in given.items() if other != way and at > layer]
            if winners:
                draft.drop(key, f"replaced by {winners[0]} ({draft.settings[winners[0]].origin})")


def _apply_dialects(draft: Draft) -> None:
    """Set aside the keys that need not act, those poise decides, and those that are refused."""
    for key, setting in list(draft.settings.items()):
        if key in REFUSED:
            if setting.value in (False, None, "no", "off"):
                draft.drop(key, "it is always off here")
            else:
                draft.blame((key,), *REFUSED[key])
                del draft.settings[key]
        elif key in NO_EFFECT:
            draft.drop(key, NO_EFFECT[key])
        elif key in REPLACED and str(setting.value) in REPLACED[key][0]:
            draft.adjust(key, REPLACED[key][0][str(setting.value)], REPLACED[key][1])
        elif key in FORCED and setting.value is not FORCED[key][0]:
            draft.adjust(key, *FORCED[key])


def _blame_unknown(draft: Draft, verb: str, objective: "type[Objective]") -> None:
    """Take out the keys that belong to no section, saying what was probably meant."""
    known = {*ModelSection.model_fields, *DataSection.model_fields, *PoiseSection.model_fields}
    known |= TRAINING_FIELDS.keys() | objective.model_fields.keys()
    for key in [key for key in draft.settings if key not in known]:
        setting = draft.settings.pop(key)
        owners = owners_of(key)
        what, remedy = f"{UNKNOWN} {setting.spelled!r}", ""
        if owners:
            what = f"{key!r} belongs to {owners}; {verb} does not have it"
            remedy = "remove the line, or start the command it belongs to"
        elif key in FOREIGN:
            what += f": it is {FOREIGN[key][0]}'s name"
            remedy = f"here it is {FOREIGN[key][1]}"
        else:
            remedy = did_you_mean(setting.spelled, sorted(known | RENAMED.keys())).removeprefix("; ")
        draft.faults.append(Fault(setting.place, what, remedy))


def _section(draft: Draft, section: type[SectionT]) -> SectionT | None:
    """Validate the settings of one section; what is wrong becomes faults."""
    values: dict[str, Any] = {}
    for key, field in section.model_fields.items():
        setting = draft.settings.get(key)
        if setting is None:
            continue
        if setting.value is None and not mentions(field.annotation, type(None), None, Any):
            draft.drop(key, "null leaves it to the default")
            continue
        values[key] = _fit(setting, field.annotation)
        refusal = reject(field.annotation, values[key])
        if refusal:
            draft.blame((key,), refusal)
            del values[key]
    try:
        return section.model_validate(values)
    except ValidationError as error:
        for path, what, remedy in explain(error, values):
            told = path[0] in draft.settings and path[0] not in values
            if not told:
                draft.blame(path, what, remedy or _near_nested(path, what))
        return None


def _fit(setting: Setting, annotation: Any) -> Any:
    """Read a word of the command line as the key's type asks: text stays text, a comma separates a list."""
    if setting.text is None or isinstance(setting.value, list | dict) or setting.value is None:
        return setting.value
    if mentions(annotation, list) and ("," in setting.text or not mentions(annotation, str)):
        return [part.strip() for part in setting.text.split(",")]
    is_text = mentions(annotation, str) and not mentions(annotation, int, float)
    kept = isinstance(setting.value, bool) and mentions(annotation, bool)
    return setting.text if is_text and not kept and not isinstance(setting.value, str) else setting.value


def _near_nested(path: KeyPath, what: str) -> str:
    return did_you_mean(str(path[-1]), _NESTED_KEYS).removeprefix("; ") if what.startswith(UNKNOWN) else ""


def _default_max_length(draft: Draft, unit: Literal["tokens", "pairs", "answers"]) -> None:
    """Add the length that suits the objective, where the recipe gives none."""
    given = draft.settings.get("max_length")
    if given is None or given.value is None:
        origin = Origin("default", f"default for {unit}")
        draft.settings["max_length"] = Setting("max_length", "max_length", MAX_LENGTH[unit], origin, Place("default"))


def _settle_trackers(draft: Draft) -> None:
    """Make `report_to` a list of trackers that are installed."""
    setting = draft.settings.get("report_to")
    if setting is None:
        return
    value = [] if setting.value in (None, "none", "None") else setting.value
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[Any]", names)):
        return  # the type check tells
    wanted = [name.strip() for name in cast("list[str]", names) if name not in ("none", "None")]
    for name in wanted:
        if name not in TRACKERS:
            near = did_you_mean(name, TRACKERS).removeprefix("; ")
            draft.blame(("report_to",), f"unknown tracker {name!r}", near or f"there are {', '.join(TRACKERS)}")
    missing = [name for name in wanted if name in TRACKERS and importlib.util.find_spec(TRACKERS[name][0]) is None]
    kept = [name for name in wanted if name not in missing]
    if missing:
        packages = " ".join(TRACKERS[name][1] for name in missing)
        draft.adjust("report_to", kept, f"{', '.join(missing)} not installed; pip install {packages}")
    else:
        draft.settings["report_to"] = dataclasses.replace(setting, value=kept, text=None)


def _settle_chat_template(draft: Draft) -> None:
    """Accept a known name, an inline template, or a .jinja file that exists."""
    setting = draft.settings.get("chat_template")
    text = (setting.text or setting.value) if setting and setting.value is not None else None
    if not isinstance(text, str) or "{" in text:
        return
    known = chat_template_names()
    if text.endswith(".jinja") and not Path(text).is_file():
        draft.blame(("chat_template",), f"there is no file {text}", "the path is read from where you are")
    elif text not in known and not text.endswith(".jinja"):
        near = did_you_mean(text, known).removeprefix("; ") or f"names are {', '.join(known)}"
        draft.blame(("chat_template",), f"{show(text)} is neither a known name nor a template", near)


def chat_template_names() -> list[str]:
    """List the templates that ship with poise."""
    return sorted(path.stem for path in (Path(__file__).parent / "batch" / "templates").glob("*.jinja"))


def _training(
    draft: Draft, verb: str, tuning: Literal["full", "LoRA"]
) -> tuple[dict[str, Any] | None, dict[str, Origin]]:
    """Return the keyword arguments of TrainingArguments, and the origins of those the recipe does not give."""
    given = [key for key in TRAINING_FIELDS if key in draft.settings]
    fields: dict[str, Any] = {key: (TRAINING_FIELDS[key], None) for key in given}
    section = _section(draft, create_model("TrainingSection", **fields))
    _check_warmup_ratio(draft)
    if section is None:
        return None, {}
    values = {key: getattr(section, key) for key in section.model_fields_set}
    name = draft.path.stem if draft.path else ""
    defaults = [entry for entry in default_training(verb, tuning, name) if entry[0] not in values]
    values |= {key: value for key, value, _ in defaults}
    origins = {key: Origin("default", text) for key, _, text in defaults}
    return {key: values[key] for key in TRAINING_FIELDS if key in values}, origins


def _check_warmup_ratio(draft: Draft) -> None:
    """A ratio of 1 would be read as one step: transformers takes both in `warmup_steps`."""
    setting = draft.settings.get("warmup_steps")
    if setting is None or setting.spelled != "warmup_ratio":
        return
    try:
        ratio = float(setting.value)
    except (TypeError, ValueError):
        return  # the type check tells
    if ratio >= 1:
        draft.blame(("warmup_steps",), f"a share of all steps is below 1, got {show(setting.value)}")


def _check_together(
    draft: Draft, model: ModelSection, data: DataSection, objective: "Objective", training: Mapping[str, Any]
) -> None:
    """Check what only several sections know."""
    if objective.moving_reference and model.ref_model_name_or_path:
        what = "a reference that follows the policy starts as the policy, not as another model"
        draft.blame(("sync_ref_model",), what, "remove ref_model_name_or_path, or set sync_ref_model: false")
    if training["eval_strategy"] != "no" and not data.has_test_rows:
        remedy = "name test data (dataset_test_split, or dataset_mixture.test_split_size), or set eval_strategy: no"
        draft.blame(("eval_strategy",), "there is nothing to evaluate on", remedy)


def _idle_keys(
    model: ModelSection, data: DataSection, objective: "Objective", trackers: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield (key, why) of the keys that do not act in this recipe."""
    yield from objective.idle.items()
    answers = objective.unit != "tokens"
    if not model.use_peft:
        adapter = (key for key in ModelSection.model_fields if key.startswith("lora_"))
        yield from _each((*adapter, "use_rslora", "use_dora", "adapter_continuation"), "no effect: use_peft is false")
    if not model.load_in_4bit:
        quantized = (key for key in ModelSection.model_fields if key.startswith("bnb_"))
        yield from _each((*quantized, "use_bnb_nested_quant"), "no effect: load_in_4bit is false")
    if not objective.needs_reference:
        yield "ref_model_name_or_path", "no effect: this objective has no reference"
        yield "reference_cache", "no effect: this objective has no reference"
    elif objective.moving_reference:
        yield "reference_cache", "no effect: a reference that moves is scored anew"
    if "document" not in objective.rows:
        yield "text_column", "no effect: only documents are read from one column"
    if answers:
        yield "packing", "no effect: answers always share the row of their prompt, without padding"
    else:
        yield "max_prompt_length", "no effect: only where answers are compared is the prompt apart"
    if "wandb" not in trackers:
        yield from _each(("wandb_project", "wandb_entity", "wandb_run_group"), "no effect: report_to lacks wandb")
    for way, keys in DATA_KEYS.items():
        if way != data.way:
            yield from _each(keys, f"no effect: the data is named in {data.way}")


def _each(keys: Iterable[str], why: str) -> Iterator[tuple[str, str]]:
    return ((key, why) for key in keys)


def _plain(value: Any) -> Any:
    return value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value
