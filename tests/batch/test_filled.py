"""16-bit products on the CPU: flat rows are filled up to few numbers of tokens, and nothing else changes."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from poise.batch.batch import make_batch
from poise.batch.row import Row, Segment
from poise.batch.score import TOKENS_STEP, Scorer

SIZE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0,
}  # fmt: skip
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2, "output_router_logits": True, "router_aux_loss_coef": 0.02}


def llama() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZE))


def mixtral() -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("mixtral", **SIZE | MOE))


def pairs() -> list[Row]:
    draw = np.random.default_rng(0)

    def segment(tokens: int, parent: int = -1) -> Segment:
        return Segment(draw.integers(1, 64, tokens).astype(np.int32), np.full(tokens, parent >= 0), parent)

    return [Row(str(size), (segment(size), segment(7, 0), segment(3, 0))) for size in (9, 30, 41)]


def seen_by(model: Any) -> list[int]:
    """Collect how many tokens go through the first layer."""
    seen: list[int] = []
    model.model.layers[0].self_attn.q_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    return seen


def test_a_filled_batch_ends_in_a_segment_that_nobody_continues() -> None:
    batch = make_batch(pairs())
    filled = batch.filled(64)
    assert batch.tokens % 64 and filled.tokens == -(-batch.tokens // 64) * 64
    assert filled.layout.ancestors[:-1] == batch.layout.ancestors and filled.layout.ancestors[-1] == ()
    assert sum(filled.layout.lengths) == filled.tokens == len(filled.position_ids)
    assert torch.equal(filled.predictors, batch.predictors) and torch.equal(filled.owners, batch.owners)
    assert filled.filled(64) is filled


@pytest.mark.parametrize("make", [llama, mixtral])
def test_filling_changes_neither_values_nor_gradients_nor_the_router_loss(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[Any, list[torch.Tensor]]] = []
    for fills in (False, True):
        monkeypatch.setattr("poise.batch.score._compiles_each_shape", lambda *_, fills=fills: fills)
        model = make()
        scorer, seen = Scorer(model, router_aux_loss_coef=0.02 if make is mixtral else None), seen_by(model)
        logps = scorer(make_batch(pairs()))
        assert (seen[0] % TOKENS_STEP == 0) == fills
        total = logps.values.sum() + (logps.router.sum() if logps.router is not None else 0)
        total.backward()
        found.append((logps, [each.grad for each in model.parameters() if each.grad is not None]))
    (plain, plain_gradients), (filled, filled_gradients) = found
    torch.testing.assert_close(filled.values, plain.values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(filled.router, plain.router, rtol=1e-5, atol=1e-5)
    assert len(plain_gradients) == len(filled_gradients) > 10
    for with_filling, without in zip(filled_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(with_filling, without, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("autocast", "fills"), [(False, False), (True, True)])
def test_only_16_bit_products_are_filled(autocast: bool, fills: bool) -> None:
    model = llama()
    seen = seen_by(model)
    batch = make_batch(pairs())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logps = Scorer(model)(batch)
    assert seen == [batch.filled(TOKENS_STEP).tokens if fills else batch.tokens]
    assert logps.values.shape == batch.targets.shape and logps.values.dtype == torch.float32
