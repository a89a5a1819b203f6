"""NEFTune: the noise of every token is scaled by its own sequence, and there is none but in training."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.neftune import activate_neftune, deactivate_neftune

from poise.batch.batch import make_batch
from poise.batch.neftune import longest_sequences
from poise.batch.row import Row, Segment
from poise.batch.score import Scorer

WIDTH, ALPHA = 512, 5.0
SIZE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip


def make_model(kind: str = "llama", **size: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZE | size))


def segment(tokens: int, parent: int = -1) -> Segment:
    return Segment(np.arange(1, tokens + 1, dtype=np.int32), np.full(tokens, True), parent)


PAIR = Row("pair", (segment(6), segment(10, 0), segment(3, 0)))
CONVERSATION = Row("conversation", (segment(25),))
LENGTHS = [16, 16, 9, 25]
"""Of the longest sequence through each segment: prompt and chosen 6 + 10, rejected 6 + 3, the conversation alone."""


def entering(scorer: Scorer, rows: list[Row]) -> list[Tensor]:
    """What every forward pass hands to the first layer, (tokens, width)."""
    found: list[Tensor] = []
    layer = scorer.causal_lm.get_decoder().layers[0]
    hook = layer.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0][0].detach()))
    with torch.no_grad():
        scorer(make_batch(rows))
    hook.remove()
    return found


def test_the_longest_sequence_through_a_segment() -> None:
    assert longest_sequences(make_batch([PAIR, CONVERSATION]).layout) == LENGTHS
    tree = Row("tree", tuple(segment(2, parent) for parent in (-1, 0, 1, 1, 0)))
    assert longest_sequences(make_batch([tree]).layout) == [6, 6, 6, 6, 4]


def test_noise_is_uniform_within_alpha_over_the_root_of_length_times_width() -> None:
    """Uniform on [-b, b]: largest near b, variance b^2 / 3 (standard error of it about 2 % at 1,500 draws)."""
    model = make_model()
    batch = make_batch([PAIR, CONVERSATION])
    (noisy,) = entering(Scorer(model, neftune_noise_alpha=ALPHA).train(), [PAIR, CONVERSATION])
    noise = noisy - model.get_input_embeddings()(batch.input_ids).detach()
    for part, length in zip(noise.split(batch.layout.lengths), LENGTHS, strict=True):
        bound = ALPHA / math.sqrt(length * WIDTH)
        assert 0.99 * bound < part.abs().max() <= bound * (1 + 1e-4)
        assert float(part.square().mean()) == pytest.approx(bound**2 / 3, rel=0.1)
        assert part.mean().abs() < 0.1 * bound


def test_sequences_computed_alone_have_noise_of_their_own_length() -> None:
    model = make_model()
    ids = [1, 2, 3, 4, 5, 6, 1, 2, 3]
    _, noisy, _ = entering(Scorer(model, way="alone", neftune_noise_alpha=ALPHA).train(), [PAIR, CONVERSATION])
    noise = (noisy - model.get_input_embeddings()(torch.tensor(ids))).abs().max().detach()
    assert 0.99 * ALPHA / math.sqrt(9 * WIDTH) < noise <= ALPHA / math.sqrt(9 * WIDTH) * (1 + 1e-4)


@pytest.mark.parametrize("alpha", [ALPHA, 0.0, None])
def test_there_is_no_noise_outside_training_nor_without_alpha(alpha: float | None) -> None:
    model, batch = make_model(), make_batch([PAIR, CONVERSATION])
    with torch.no_grad():
        expected = Scorer(model).eval()(batch).values
        scorer = Scorer(model, neftune_noise_alpha=alpha)
        assert torch.equal(scorer.eval()(batch).values, expected)
        assert torch.equal(scorer.train()(batch).values, expected) == (not alpha)
        assert torch.equal(scorer.eval()(batch).values, expected)  # nothing stays behind


def test_a_seed_repeats_the_noise_and_goes_on_from_it() -> None:
    scorer = Scorer(make_model(), neftune_noise_alpha=ALPHA).train()
    draws = []
    for _ in range(2):
        torch.manual_seed(7)
        draws += [entering(scorer, [PAIR])[0] for _ in range(2)]
    assert torch.equal(draws[0], draws[2])
    assert torch.equal(draws[1], draws[3])
    assert not torch.equal(draws[0], draws[1])


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gemma3_text", "granite"])
def test_one_sequence_gets_the_noise_of_transformers_own_hook(kind: str) -> None:
    """The same draws at the same place, also in models that multiply their embeddings, before or after it."""
    scorer = Scorer(make_model(kind), neftune_noise_alpha=ALPHA).train()
    torch.manual_seed(3)
    (ours,) = entering(scorer, [CONVERSATION])
    scorer.neftune_noise_alpha = None
    hook = activate_neftune(scorer.causal_lm, ALPHA)
    torch.manual_seed(3)
    (theirs,) = entering(scorer, [CONVERSATION])
    deactivate_neftune(scorer.causal_lm, hook)
    assert not torch.allclose(ours, entering(scorer, [CONVERSATION])[0], atol=1e-3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_gradients_reach_the_embeddings_through_the_noise() -> None:
    model = make_model()
    scorer = Scorer(model, neftune_noise_alpha=ALPHA).train()
    scorer(make_batch([PAIR])).values.sum().backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient[1:7].abs().sum(dim=1).all()
