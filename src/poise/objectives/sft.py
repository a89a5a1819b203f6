"""Supervised fine-tuning: the negative log-likelihood of the trained tokens, every token of the step weighing the same.

L = - sum_t log pi(y_t | y_<t) / (trained tokens of the optimizer step)
"""

from typing import ClassVar

from torch import Tensor

from poise.batch.logps import Logps
from poise.batch.objective import Objective, Unit


class SFT(Objective):
    """Train on every assistant turn of conversations."""

    unit: ClassVar[Unit] = "tokens"
    rows: ClassVar[tuple[str, ...]] = ("conversation",)

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (trained tokens,) in nats, and no metrics."""
        return -policy.values, {}
