"""A Step: one curation decision over the rows that are left. Its file name is its name in a recipe."""

from abc import abstractmethod
from typing import Any

from pydantic import BaseModel, ConfigDict

from poise.curate.reason import Reason
from poise.curate.rows import Decisions, Rows
from poise.errors import RecipeError
from poise.examples import Example
from poise.names import did_you_mean, load_named, names_in

PACKAGE = "poise.curate.steps"


class Step(BaseModel):
    """Recipe keys of a step, and what it decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def decide(self, rows: Rows) -> Decisions:
        """Say which rows are dropped and why; the same for any order of rows and any number of partitions."""

    def fingerprint(self) -> Any:
        """Return what decides beside the recipe keys, such as the hashes of files that are read."""
        return None


class Judge(Step):
    """A step that judges each row for itself."""

    @abstractmethod
    def judge(self, example: Example) -> Reason | None:
        """Return why a row is dropped, or None."""

    def decide(self, rows: Rows) -> Decisions:
        """Judge every row."""
        return Decisions(rows.judged(self.judge))


def load_step(name: str, keys: dict[str, Any]) -> Step:
    """Make a step from its recipe keys."""
    return step_class(name)(**keys)


def step_class(name: str) -> type[Step]:
    """Find a step's class, which is named as its file, in capitals."""
    known = names_in(PACKAGE)
    if name not in known:
        raise RecipeError(f"there is no step {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
    module = load_named(PACKAGE, name)
    return getattr(module, "".join(part.capitalize() for part in name.split("_")))
