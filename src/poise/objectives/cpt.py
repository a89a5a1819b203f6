"""Continued pretraining: the likelihood of every token of plain documents, packed, with nothing joined across them.

    L = - sum_t log pi(x_t | x_<t) / (tokens of the optimizer step)
"""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from poise.batch.logps import Logps


class CPT(BaseModel):
    """Train on every token of documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    unit: ClassVar[Literal["tokens", "pairs"]] = "tokens"
    rows: ClassVar[tuple[str, ...]] = ("document",)
    needs_reference: ClassVar[bool] = False

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (trained tokens,) in nats, and no metrics."""
        return -policy.values, {}
