"""Continued pretraining: the likelihood of every token of plain documents, packed, with nothing joined across them.

L = - sum_t log pi(x_t | x_<t) / (tokens of the optimizer step)
"""

from typing import ClassVar

from torch import Tensor

from poise.batch.logps import Logps
from poise.batch.objective import Objective, Unit


class CPT(Objective):
    """Train on every token of documents."""

    unit: ClassVar[Unit] = "tokens"
    rows: ClassVar[tuple[str, ...]] = ("document",)

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (trained tokens,) in nats, and no metrics."""
        return -policy.values, {}
