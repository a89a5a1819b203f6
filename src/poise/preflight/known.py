"""What is known before the model is loaded: the only thing a check sees."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from poise.batch.row import Row
from poise.batch.tokens import PreparedTokenizer
from poise.examples import Example
from poise.preflight.machine import Machine
from poise.preflight.model import ModelFacts
from poise.recipe import Recipe
from poise.run import Drop


@dataclass(frozen=True)
class Length:
    """What an Example comes to once rendered, whether or not it was kept."""

    id: str
    place: str
    longest: int
    """Tokens of its longest sequence."""
    trained: int
    is_kept: bool


@dataclass(frozen=True)
class Known:
    """Everything that checks look at; a part that is not known is empty or None, and its checks find nothing."""

    recipe: Recipe
    train: Sequence[Example] = ()
    held_out: Sequence[Example] = ()
    rows: Sequence[Row] = ()
    """Rendered rows; conversations that were packed stand together in one."""
    held_out_rows: Sequence[Row] = ()
    drops: Sequence[Drop] = ()
    lengths: Sequence[Length] = ()
    rows_in: int = 0
    """Rows read, dropped ones included."""
    scale: float = 1.0
    """Examples to train on for every one that was rendered: above 1 where only a sample was."""
    tokenizer: PreparedTokenizer | None = None
    model: ModelFacts | None = None
    machine: Machine = field(default_factory=Machine)
    rows_per_step: int = 1
    steps: int = 0
    """Updates of the run, 0 where unknown."""
    refusals: Sequence["tuple[str, str]"] = ()
    """(code, message) of what poise or a library would refuse once training starts."""
    forecast_memory_bytes: int | None = None
    """Peak memory that a probe of this recipe found."""

    @property
    def rows_to_train(self) -> int:
        """Rows of an epoch."""
        return round(len(self.rows) * self.scale)
