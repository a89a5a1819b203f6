"""What a training method is: hyperparameters, the rows it learns from, and a loss per item from log-probabilities."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from poise.batch.logps import Logps
from poise.batch.row import Row


@dataclass(frozen=True)
class MovingReference:
    """A reference that moves: every `steps` updates it becomes mixup x policy + (1 - mixup) x reference."""

    mixup: float
    steps: int


Unit = Literal["tokens", "pairs", "answers"]


class Objective(BaseModel):
    """Base of every method in poise/objectives; its fields are recipe keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: ClassVar[Unit]
    """What a loss is counted by: an optimizer step divides the sum of losses by its number of these."""
    rows: ClassVar[tuple[str, ...]]
    """Kinds of Examples it learns from."""
    needs_reference: ClassVar[bool] = False
    """Whether it compares with the policy as it was at the start."""
    whole_step: ClassVar[bool] = False
    """Whether a loss depends on other items of its optimizer step; all are then scored before any is trained on."""
    needs_mismatched: ClassVar[bool] = False
    """Whether it reads `Logps.mismatched`: every prompt then gets another row's answer beside its own."""

    @property
    def needs_collision(self) -> bool:
        """Whether it reads `Logps.collision` of the policy."""
        return False

    @property
    def moving_reference(self) -> MovingReference | None:
        """How the reference follows the policy; None where it stays as it was at the start."""
        return None

    @property
    def idle(self) -> dict[str, str]:
        """Fields that do not act beside the values of the others, each with the reason."""
        return {}

    def remarks(self, rows: Sequence[Row]) -> list[str]:
        """Say what is worth knowing of the rows it is about to learn from, a sentence each."""
        return []

    @abstractmethod
    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (losses, metrics), each (items,): losses in nats with gradient, metrics without.

        A metric of some items only is (items, 2), see `only_of`.
        """


class Referenced(Objective):
    """Base of those that are measured from a reference, which may follow the policy (see train/moving.py)."""

    needs_reference: ClassVar[bool] = True

    sync_ref_model: bool = False
    """Let the reference follow the policy (TR-DPO)."""
    ref_model_mixup_alpha: float = Field(default=0.6, gt=0, le=1)
    """Share of the policy in the moved reference."""
    ref_model_sync_steps: int = Field(default=512, ge=1)
    """Updates between two moves."""

    @property
    def moving_reference(self) -> MovingReference | None:
        """How the reference follows the policy."""
        moves = MovingReference(self.ref_model_mixup_alpha, self.ref_model_sync_steps)
        return moves if self.sync_ref_model else None

    @property
    def idle(self) -> dict[str, str]:
        """The keys of a moving reference where it stands still."""
        why = "no effect: sync_ref_model is false"
        return {} if self.sync_ref_model else {"ref_model_mixup_alpha": why, "ref_model_sync_steps": why}


def only_of(items: Tensor, values: Tensor) -> Tensor:
    """Make a metric (items, 2) that is averaged over the marked items alone: (0, 0) for each of the others."""
    return torch.stack((values.where(items, 0), items.to(values.dtype)), dim=-1).detach()
