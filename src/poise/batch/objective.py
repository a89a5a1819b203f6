"""What a training method is: hyperparameters, the rows it learns from, and a loss per item from log-probabilities."""

from abc import abstractmethod
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from poise.batch.logps import Logps


class Objective(BaseModel):
    """Base of every method in poise/objectives; its fields are recipe keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: ClassVar[Literal["tokens", "pairs"]]
    """What a loss is counted by: an optimizer step divides the sum of losses by its number of these."""
    rows: ClassVar[tuple[str, ...]]
    """Kinds of Examples it learns from."""
    needs_reference: ClassVar[bool] = False
    """Whether it compares with the policy as it was at the start."""

    @abstractmethod
    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (losses, metrics), each (items,): losses in nats with gradient, metrics without."""
