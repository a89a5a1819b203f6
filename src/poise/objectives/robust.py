"""Robust DPO (Chowdhury, Kini and Natarajan 2024, arXiv:2403.00409, section 3.1).

    L = ((1 - e) L_DPO(w, l) - e L_DPO(l, w)) / (1 - 2 e)

whose mean over labels that are flipped at rate e is DPO's loss on the true ones. It has no lower bound.
"""

from pydantic import Field
from torch import Tensor

from poise.batch.preference import Answers, DivergencePairs, logistic


class Robust(DivergencePairs):
    """Learn what unflipped preferences would teach, from labels of which a known share is flipped."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of flipped labels; 0.1 is the paper's, 0 is dpo."""

    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), in nats."""
        margins, flipped = self.margins(chosen, rejected), self.label_smoothing
        return ((1 - flipped) * logistic(margins, 0) - flipped * logistic(-margins, 0)) / (1 - 2 * flipped)
