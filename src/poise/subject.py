"""What is evaluated: the model of a run with the recipe that made it, or a model or adapter alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from poise.errors import DataError, RecipeError, RunError
from poise.examples import Example, PreferencePair, asked
from poise.names import did_you_mean, names_in
from poise.recipe import ModelSection, Recipe, load_recipe
from poise.recipe_objective import OBJECTIVES, objective_class
from poise.run import MANIFEST, Drop, Run
from poise.sources import SourceSpec, load

if TYPE_CHECKING:
    from poise.batch.objective import Objective

RESOLVED = "recipe.resolved.yaml"
PAIRED = ("preference_pair", "ranked_answers")
"""Kinds of Examples in which answers are compared."""


@dataclass(frozen=True)
class Subject:
    """A model by name, and the run that made it where one did."""

    name: str
    section: ModelSection
    """How it is loaded; its `model_name_or_path` is the model that is evaluated."""
    recipe: Recipe | None = None
    run: Run | None = None

    @property
    def max_length(self) -> int | None:
        """Tokens of the longest row that its run trained on; None for no bound."""
        return self.recipe.data.max_length if self.recipe else None

    @property
    def overlong(self) -> Literal["drop", "truncate_prompt"]:
        """What became of longer ones."""
        return self.recipe.data.overlong if self.recipe else "drop"


def open_subject(model: str, chat_template: str | None = None) -> Subject:
    """Find out what a name stands for; a run's own `model` folder stands for the run."""
    folder = _run_folder(Path(model))
    if folder is None:
        return Subject(model, _section({"model_name_or_path": model, "chat_template": chat_template}))
    run = Run.open(folder)
    if not (folder / "model").is_dir():
        raise RunError(
            f"{folder} holds no model (status: {run.manifest.get('status')})\n"
            "    to do:  finish it with --resume, or name another run"
        )
    recipe = load_recipe(run.manifest["verb"], folder / RESOLVED)
    changes: dict[str, Any] = {"model_name_or_path": str(folder / "model"), "model_revision": "main"}
    if chat_template is not None:
        changes["chat_template"] = chat_template
    return Subject(model, recipe.model.model_copy(update=changes), recipe, run)


def _section(values: dict[str, Any]) -> ModelSection:
    return ModelSection.model_validate(values)


def _run_folder(path: Path) -> Path | None:
    for folder in (path, path.parent) if path.name == "model" else (path,):
        if (folder / MANIFEST).is_file() and (folder / RESOLVED).is_file():
            return folder
    return None


def choose_objective(
    subject: Subject, method: str | None, beta: float | None, *, measured: bool
) -> "tuple[str, Objective | None]":
    """Return whose rewards are told, by name: the asked method's, else the run's, else DPO's where `measured`.

    `measured` says whether a reference is there beside a recipe; without one and without a method, likelihoods are all
    there is, and the name is empty.
    """
    name, objective = _chosen(subject, method, measured=measured)
    if objective is not None and objective.needs_reference and not measured and subject.run is None:
        raise RecipeError(
            f"{name} measures rewards from a reference, and nothing says what {subject.name} was before its training\n"
            "    to do:  add --reference MODEL, or a --method without one: orpo, simpo, cpo"
        )
    if objective is None:
        if beta is not None:
            raise RecipeError(
                f"--beta {beta:g} scales rewards, and {subject.name} alone has none\n"
                "    to do:  add --method or --reference, or leave --beta out"
            )
        return "", None
    fields = type(objective).model_fields
    changes: dict[str, Any] = {} if beta is None else {"beta": beta}
    if beta is not None and "beta" not in fields:
        raise RecipeError(f"{name} has no beta\n    to do:  leave --beta out")
    if "use_weighting" in fields:  # weights of losses, for which distributions would have to be scored
        changes["use_weighting"] = False
    return name, type(objective).model_validate({**objective.model_dump(), **changes})


def _chosen(subject: Subject, method: str | None, *, measured: bool) -> "tuple[str, Objective | None]":
    if method is not None:
        return method, _own(subject, method) or _compares_pairs(method)()
    if subject.recipe is not None and subject.recipe.objective.unit == "pairs":
        return subject.recipe.verb, subject.recipe.objective
    dpo = objective_class("dpo")
    if subject.recipe is not None and subject.recipe.objective.unit == "answers":  # beta times the same log-ratio
        return subject.recipe.verb, dpo.model_validate({"beta": getattr(subject.recipe.objective, "beta", 0.1)})
    return ("dpo", dpo()) if measured else ("", None)


def _own(subject: Subject, method: str) -> "Objective | None":
    """Return the run's objective where it is the one asked for, with its beta and all else."""
    is_own = subject.recipe is not None and subject.recipe.verb == method
    return subject.recipe.objective if subject.recipe and is_own and subject.recipe.objective.unit == "pairs" else None


def _compares_pairs(method: str) -> "type[Objective]":
    known = [name for name in names_in(OBJECTIVES) if objective_class(name).unit == "pairs"]
    if method in known:
        return objective_class(method)
    near = did_you_mean(method, known) or f" (there are {', '.join(known)})"
    raise RecipeError(
        f"--method {method}: no objective of that name compares pairs{near}\n"
        "    to do:  name one that does; kto's rewards on pairs are dpo's"
    )


@dataclass(frozen=True)
class Pairs:
    """Examples in which answers are compared, and what was left out."""

    examples: list[Example]
    rows_in: int
    drops: list[Drop]
    described: str
    """Where they come from, as a phrase."""
    note: str = ""


def read_pairs(subject: Subject, data: str | None, split: str | None) -> Pairs:
    """Read the named data, else the rows that the run held out; DataError where they compare nothing."""
    if data is not None:
        return _named(data, split)
    if split is not None:
        raise RecipeError("--split is one of --data's\n    to do:  add --data, or leave --split out")
    if subject.recipe is None or subject.run is None:
        raise RecipeError(
            f"{subject.name} is no run, so it has no held-out rows\n    to do:  name pairs with --data FILE"
        )
    return _held_out(subject.recipe, subject.run)


def _named(data: str, split: str | None) -> Pairs:
    for part in (split,) if split is not None else ("test", None):
        try:
            found = load(SourceSpec(name=data, split=part), prefer=PreferencePair)
        except DataError:
            if part is None or split is not None:
                raise
            continue
        _refuse_others(found.examples, data)
        described = f"{data}, split {part}" if part else data
        return Pairs(found.examples, found.rows_in.total(), found.drops, described)
    raise AssertionError("the last of the splits returns or raises")


def _held_out(recipe: Recipe, run: Run) -> Pairs:
    from poise.train.data import load_examples

    loaded = load_examples(recipe.data, recipe.objective.rows, recipe.verb)
    if not loaded.held_out:
        raise DataError(
            f"{run.path} held no rows out\n"
            "    why:    rows it was trained on would only tell what it has learned by heart\n"
            "    to do:  name other pairs with --data FILE"
        )
    _refuse_others(loaded.held_out, f"what {run.path} held out")
    return Pairs(loaded.held_out, len(loaded.held_out), [], f"held out by {run.path}")


def _refuse_others(examples: Sequence[Example], where: str) -> None:
    other = next((example for example in examples if example.kind not in PAIRED), None)
    if other is not None:
        raise DataError(
            f"{where} holds {other.kind.replace('_', ' ')}s, no pairs ({other.place or 'first row'})\n"
            "    why:    without a second answer to the same prompt there is nothing to prefer\n"
            "    to do:  name pairs with --data FILE"
        )


def prompt_of(example: Example) -> Any:
    """Return what pairs of the same prompt share."""
    return [vars(message) for message in asked(example)]
