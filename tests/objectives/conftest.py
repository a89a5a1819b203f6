"""Log-probabilities as an objective receives them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from poise.batch.logps import Logps

Numbers = list[list[float]]


@pytest.fixture
def pair_logps() -> Callable[..., tuple[Logps, Tensor]]:
    """Make Logps of pairs from the token values of each answer, and the leaf that gradients arrive at.

    Segments are prompt, chosen, rejected of the first pair, then of the second; a prompt has no trained tokens.
    """

    def make(chosen: Numbers, rejected: Numbers, dtype: torch.dtype = torch.float64) -> tuple[Logps, Tensor]:
        values: list[float] = []
        owners: list[int] = []
        for pair, answers in enumerate(zip(chosen, rejected, strict=True)):
            for side, tokens in enumerate(answers, start=1):
                values += tokens
                owners += [3 * pair + side] * len(tokens)
        leaf = torch.tensor(values, dtype=dtype, requires_grad=True)
        chosen_segments = torch.arange(1, 3 * len(chosen), 3)
        return Logps(leaf, torch.tensor(owners), 3 * len(chosen), chosen_segments, chosen_segments + 1), leaf

    return make
