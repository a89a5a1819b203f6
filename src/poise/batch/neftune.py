"""NEFTune: uniform noise on the token embeddings while training (Jain et al. 2023, arXiv:2310.05914, algorithm 1).

    x + alpha / sqrt(L d) u        u ~ U(-1, 1), d the width of the embedding, L the tokens of the sequence

L is the length of a token's own sequence, of the longest one where several share it: several sequences lie in one flat
row here, whose length means nothing. The noise comes from torch's generator, so seed and checkpoint repeat it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from poise.batch.batch import Layout


@contextmanager
def noisy_embeddings(model: Any, layout: Layout, alpha: float) -> Generator[None]:
    """Add the noise to whatever the model's embedding puts out, (1, tokens, width), for one forward pass.

    At the module's output, as in the paper's code: models scale or project embeddings after it, and some look up
    others by token id beside it, so that embeddings cannot take the ids' place.
    """
    lengths = torch.tensor(longest_sequences(layout)).repeat_interleave(torch.tensor(layout.lengths))

    def add(module: Any, inputs: Any, embedded: Tensor) -> Tensor:
        scale = alpha / (lengths.to(embedded.device) * embedded.shape[-1]).sqrt()
        return embedded + torch.empty_like(embedded).uniform_(-1, 1) * scale.to(embedded.dtype)[:, None]

    hook = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def longest_sequences(layout: Layout) -> list[int]:
    """Tokens of the longest sequence that holds each segment."""
    longest = [0] * len(layout.lengths)
    for segment, path in enumerate(layout.ancestors):
        tokens = sum(layout.lengths[step] for step in (*path, segment))
        for step in (*path, segment):
            longest[step] = max(longest[step], tokens)
    return longest
