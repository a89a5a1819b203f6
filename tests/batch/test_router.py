"""The router loss against transformers' own, over one row at a time, and by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from poise.batch.batch import make_batch
from poise.batch.router import Router, Routing, router_of, sequences_through
from poise.batch.row import Row, Segment
from poise.batch.score import Scorer, usual_attention
from poise.errors import ModelError

SIZE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "num_experts_per_tok": 2,
    "output_router_logits": True, "router_aux_loss_coef": 0.02,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Mixtral": ("mixtral", {"num_local_experts": 4}),
    "Qwen3-MoE": ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8}),
    "Qwen2-MoE": ("qwen2_moe", {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}),
    "OLMoE": ("olmoe", {"num_experts": 4}),
    "Granite MoE": ("granitemoe", {"num_local_experts": 4}),
    "JetMoE, routed attention too": ("jetmoe", {"num_local_experts": 4, "kv_channels": 8, "aux_loss_coef": 0.02}),
    "GPT-OSS, which cannot share": ("gpt_oss", {"num_local_experts": 4, "head_dim": 8}),
}


def make_model(family: str, **size: Any) -> Any:
    kind, own = FAMILIES[family]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZE | own | size))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def segment(draw: np.random.Generator, tokens: int, parent: int = -1, label: Any = None) -> Segment:
    ids = draw.integers(1, 64, tokens).astype(np.int32)
    return Segment(ids, np.full(tokens, parent >= 0), parent, label=label)


def conversation(tokens: int = 12) -> Row:
    return Row("conversation", (segment(np.random.default_rng(tokens), tokens),))


def pair() -> Row:
    draw = np.random.default_rng(1)
    return Row("pair", (segment(draw, 9), segment(draw, 7, 0), segment(draw, 3, 0)))


def transformers_own(model: Any, *sequences: list[int]) -> torch.Tensor:
    """The loss that transformers adds for a padded batch of these sequences, its mask leaving the padding out."""
    model.set_attn_implementation(usual_attention(model))
    longest = max(map(len, sequences))
    ids = torch.tensor([each + [0] * (longest - len(each)) for each in sequences])
    mask = torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in sequences])
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask if len(sequences) > 1 else None, use_cache=False)
    return 0.02 * output.aux_loss


def way(family: str) -> Any:
    return "alone" if "cannot" in family else "shared"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_one_sequence_has_the_loss_transformers_gives_it(family: str) -> None:
    model, row = make_model(family), conversation()
    with torch.no_grad():
        ours = Scorer(model, way=way(family))(make_batch([row])).router
    theirs = transformers_own(model, row.segments[0].ids.tolist())
    assert ours is not None
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    assert float(ours) > 0.02  # 2 of 4 experts a token, evenly used, would give 0.02 x 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_has_the_loss_of_its_two_sequences_side_by_side(family: str) -> None:
    """The prompt weighs twice, as it does where it is computed twice."""
    model, row = make_model(family), pair()
    prompt, chosen, rejected = (each.ids.tolist() for each in row.segments)
    with torch.no_grad():
        ours = Scorer(model, way=way(family))(make_batch([row])).router
    assert ours is not None
    assert float(ours) == pytest.approx(float(transformers_own(model, prompt + chosen, prompt + rejected)), abs=1e-6)


def test_a_row_has_the_same_loss_whatever_lies_beside_it() -> None:
    rows = [conversation(5), pair(), conversation(20)]
    scorer = Scorer(make_model("Mixtral"))
    with torch.no_grad():
        together = scorer(make_batch(rows)).router
        apart = [scorer(make_batch([row])).router for row in rows]
    assert together is not None
    torch.testing.assert_close(together, torch.cat([each for each in apart if each is not None]), rtol=0, atol=1e-6)


def test_transformers_mean_over_a_micro_batch_is_another() -> None:
    """Why it is not used: with it, cutting a step into micro-batches would change the loss."""
    model = make_model("Mixtral")
    rows = [conversation(8), Row("other", (segment(np.random.default_rng(5), 8),))]
    ids = [row.segments[0].ids.tolist() for row in rows]
    together = transformers_own(model, *ids)
    assert abs(together - (transformers_own(model, ids[0]) + transformers_own(model, ids[1])) / 2) > 1e-4


def test_the_loss_by_hand() -> None:
    """Two experts, top 1, one layer; probabilities of expert 0 are 3/4, 1/4, 1/2 + (tokens 0, 1, 2), token 0 in two.

    weights 2 1 1: sent to expert 0: 2 + 0 + 1 = 3 of 4; probability of it: (2 x 3/4 + 1/4 + 1/2) / 4 = 9/16
    loss = 2 (3/4 x 9/16 + 1/4 x 7/16) = 2 x 34/64 = 17/16
    """
    logits = torch.tensor([[3.0, 1.0], [1.0, 3.0], [1.0001, 1.0]]).log().double()
    pair = Row("pair", tuple(Segment(np.array([1], np.int32), np.array([True]), parent) for parent in (-1, 0, 0)))
    routing = Router(1.0, 1).of_batch([logits], make_batch([pair]))
    assert routing.sent.tolist() == [[3, 1]]
    assert routing.tokens.tolist() == [4]
    assert routing.loss().tolist() == pytest.approx([17 / 16], abs=1e-4)


def test_even_use_costs_the_number_of_experts_a_token_is_sent_to() -> None:
    even = Routing(torch.full((1, 4), 6.0), torch.full((1, 4), 3.0), torch.tensor([12.0]))
    assert even.loss().tolist() == [2]


def test_a_segment_is_held_by_the_sequences_that_pass_through_it() -> None:
    draw = np.random.default_rng(0)
    tree = Row("tree", tuple(segment(draw, 2, parent) for parent in (-1, 0, 1, 1, 0)))
    assert sequences_through(make_batch([tree, conversation()]).layout) == [3, 2, 1, 1, 1, 1]


def test_an_answer_of_another_row_weighs_nothing() -> None:
    draw = np.random.default_rng(3)
    prompt, answer = segment(draw, 6), segment(draw, 4, 0, "desirable")
    alone = Row("alone", (prompt, answer))
    estimating = Row("estimating", (prompt, answer, segment(draw, 5, 0, "mismatched")))
    for scored in ("shared", "packed", "alone"):
        scorer = Scorer(make_model("Mixtral"), way=scored)  # type: ignore[arg-type]
        with torch.no_grad():
            found = [scorer(make_batch([row])).router for row in (alone, estimating)]
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


# When it acts --------------------------------------------------------------------------------------------------------


def test_the_models_config_decides_unless_a_coefficient_does() -> None:
    silent, outspoken = make_model("Mixtral", output_router_logits=False), make_model("Mixtral")
    assert router_of(silent, None) is None
    assert router_of(outspoken, None) == Router(0.02, 2)
    assert router_of(silent, 0.3) == router_of(outspoken, 0.3) == Router(0.3, 2)
    assert router_of(outspoken, 0.0) is None


def test_without_a_router_loss_there_is_none(tiny_llama: Any) -> None:
    with torch.no_grad():
        assert Scorer(make_model("Mixtral"), router_aux_loss_coef=0)(make_batch([pair()])).router is None
        assert Scorer(tiny_llama)(make_batch([pair()])).router is None


def test_a_coefficient_on_a_dense_model_is_refused(tiny_llama: Any) -> None:
    assert router_of(tiny_llama, 0.0) is None
    with pytest.raises(ModelError, match="llama is no mixture of experts with a router loss"):
        Scorer(tiny_llama, router_aux_loss_coef=0.01)


def test_another_balance_than_these_equations_is_refused() -> None:
    config = AutoConfig.for_model("doge", **SIZE | {"is_moe": True, "num_experts": 4})
    with pytest.raises(ModelError, match="doge balances its experts otherwise"):
        router_of(AutoModelForCausalLM.from_config(config), None)


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_keep_its_gradient_or_are_refused(reentrant: bool) -> None:
    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        model = make_model("Mixtral").train()
        if checkpointing:
            options = {"use_reentrant": reentrant}
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
            if reentrant:
                model.enable_input_require_grads()
        router = Scorer(model)(make_batch([pair(), conversation()])).router
        assert router is not None
        router.sum().backward()
        return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}

    if reentrant:
        with pytest.raises(ModelError, match="the router loss gets no gradient"):
            gradients(checkpointing=True)
        return
    expected, found = gradients(checkpointing=False), gradients(checkpointing=True)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
