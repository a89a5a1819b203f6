"""What a stage is once it is resolved, and what the stages before it hand on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from poise.errors import RecipeError
from poise.names import did_you_mean
from poise.pipeline.file import Pipeline, Step
from poise.recipe_faults import UNKNOWN, explain
from poise.recipe_yaml import Fault

if TYPE_CHECKING:
    from poise.recipe import Recipe

KeysT = TypeVar("KeysT", bound=BaseModel)


class NothingBefore(RecipeError):  # noqa: N818 - it may be no error of its own
    """A stage has nothing to work on, which may be because one before it is wrong."""


class Keys(BaseModel):
    """The keys of a stage that trains nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Dataset:
    """What a curation makes."""

    stage: str
    folder: Path
    has_test: bool
    """Whether its recipe holds rows out."""


@dataclass(frozen=True)
class Trained:
    """A training and what is said of its model."""

    stage: str
    label: str
    """`sft`; `sft-2` for the second one."""
    recipe: "Recipe"
    folder: Path


@dataclass(frozen=True)
class Chain:
    """What the stages so far have made."""

    pipeline: Pipeline
    model: str | None
    made_by: str
    """The stage that made the model, or the line that names it."""
    is_adapter: bool = False
    datasets: tuple[Dataset, ...] = ()
    trained: tuple[Trained, ...] = ()
    folders: tuple[Path, ...] = ()
    """Folders that the report tells of."""
    evidence: Path | None = None
    """The folder of the newest evaluation."""
    evaluations: tuple[Path, ...] = ()
    """What benchmarks, judges and pairs found of every model in it."""

    def with_folder(self, folder: Path, **changes: Any) -> "Chain":
        """Return the chain after a stage that the report tells of."""
        return replace(self, folders=(*self.folders, folder), **changes)


@dataclass(frozen=True)
class Work:
    """A stage that is resolved: what decides its result, what that is, and how it is made."""

    values: dict[str, Any]
    """Its keys as they act."""
    reads: tuple[Path, ...]
    """Files and folders whose content decides beside them; what is not on this machine is left out."""
    writes: tuple[Path, ...]
    """Its result."""
    after: Chain
    run: Callable[[bool], dict[str, Any]]
    """Make it, going on from what was begun where the argument says so; returns what is worth keeping."""
    notes: tuple[str, ...] = ()


def checked(step: Step, keys: type[KeysT]) -> KeysT:
    """Return a stage's keys, or raise RecipeError with the place of everything wrong."""
    try:
        return keys.model_validate(step.keys.values)
    except ValidationError as error:
        faults: list[Fault] = []
        for path, what, remedy in explain(error, step.keys.values):
            near = did_you_mean(str(path[-1]), keys.model_fields) if what.startswith(UNKNOWN) else ""
            known = step.keys.keys if near or what.startswith(UNKNOWN) else step.keys.places
            faults.append(Fault(known.get(path, step.place), what + near, remedy))
        count = "1 problem" if len(faults) == 1 else f"{len(faults)} problems"
        raise RecipeError("\n".join([f"its keys have {count}:", *map(str, faults)])) from None


def local(*names: str | None) -> tuple[Path, ...]:
    """Return those that are files or folders here."""
    return tuple(Path(name) for name in names if name and len(name) < 1024 and Path(name).exists())
