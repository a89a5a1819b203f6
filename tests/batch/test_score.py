"""Log-probabilities against log_softmax over the model's own logits, and the check before training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

import poise.batch.score as score
from poise.batch.attention import NAME
from poise.batch.batch import make_batch
from poise.batch.row import Row, Segment
from poise.batch.score import Scorer, Way, token_logps, usual_attention
from poise.train.check import check_sharing
from poise.train.model import Hardware

VOCABULARY, WIDTH = 11, 8
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 12, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 256,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama, a plain matrix": ("llama", SIZE),
    "Phi, with a bias": ("phi", {key: value for key, value in SIZE.items() if key != "head_dim"}),
    "Gemma 2, capped at 1.5": ("gemma2", SIZE | {"final_logit_softcapping": 1.5}),
    "Cohere, times 0.25": ("cohere", SIZE | {"logit_scale": 0.25}),
    "Granite, divided by 4": ("granite", SIZE | {"logits_scaling": 4.0}),
}


def make_model(head: str, dtype: torch.dtype = torch.float64) -> Any:
    kind, size = HEADS[head]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **size)).to(dtype).eval()
    output = nn.Linear(WIDTH, VOCABULARY, bias=model.lm_head.bias is not None, dtype=dtype)  # untied, to vary it alone
    model.set_output_embeddings(output)
    return model


def states(tokens: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Hidden states wide enough to saturate a cap of 1.5, and a target for each."""
    torch.manual_seed(1)
    hidden = 3 * torch.randn(tokens, WIDTH, dtype=dtype)
    return hidden.requires_grad_(), torch.randint(VOCABULARY, (tokens,))


def expected_logps(hidden: Tensor, targets: Tensor, model: Any, head: str) -> Tensor:
    """Write each model's projection out, then log_softmax and gather."""
    logits = model.lm_head(hidden)
    if head.startswith("Gemma"):
        logits = 1.5 * torch.tanh(logits / 1.5)
    if head.startswith(("Cohere", "Granite")):
        logits = logits / 4
    return logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]


def gradients(values: Tensor, hidden: Tensor, model: Any) -> dict[str, Tensor]:
    """Gradient of a sum in which every token has a weight of its own, of either sign."""
    weights = torch.linspace(-1, 2, len(values), dtype=values.dtype)
    leaves = {"hidden": hidden, **{name: each for name, each in model.lm_head.named_parameters() if each.requires_grad}}
    found = torch.autograd.grad((values * weights).sum(), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


# The projection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_elements", [1, 1 << 23], ids=["three chunks", "one chunk"])
@pytest.mark.parametrize("head", HEADS)
def test_token_logps_are_the_log_softmax_of_the_logits(
    head: str, chunk_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of hidden states, weight and bias; 150 tokens are chunks of 64, 64 and 22."""
    monkeypatch.setattr(score, "CHUNK_ELEMENTS", chunk_elements)
    model, (hidden, targets) = make_model(head), states(150)
    ours, theirs = token_logps(hidden, targets, model)[0], expected_logps(hidden, targets, model, head)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    expected = gradients(theirs, hidden, model)
    found = gradients(ours, hidden, model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("head", HEADS)
def test_the_written_out_projection_is_the_models_own(head: str) -> None:
    """Else the test above would compare with something the model does not compute."""
    model = make_model(head)
    ids = torch.arange(VOCABULARY)[None]
    with torch.no_grad():
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0, :-1]
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        theirs = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        torch.testing.assert_close(expected_logps(hidden, ids[0, 1:], model, head), theirs, rtol=0, atol=1e-12)
        torch.testing.assert_close(token_logps(hidden, ids[0, 1:], model)[0], theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("head", HEADS)
def test_the_gradient_is_the_slope(head: str) -> None:
    """Against finite differences, for hidden states, weight and bias."""
    model, (hidden, targets) = make_model(head), states(3)

    def logps(hidden: Tensor, *parameters: Tensor) -> Tensor:
        return token_logps(hidden, targets, model)[0]  # gradcheck moves the parameters in place

    assert torch.autograd.gradcheck(logps, (hidden, *model.lm_head.parameters()))


@pytest.mark.parametrize("head", HEADS)
def test_a_frozen_head_gives_hidden_states_the_same_gradient(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under LoRA, where the gradient's direction is computed in the forward pass."""
    monkeypatch.setattr(score, "CHUNK_ELEMENTS", 1)
    model, (hidden, targets) = make_model(head), states(150)
    trained = token_logps(hidden, targets, model)[0]
    expected = gradients(trained, hidden, model)["hidden"]
    model.lm_head.requires_grad_(False)
    frozen = token_logps(hidden, targets, model)[0]
    assert torch.equal(frozen, trained)
    torch.testing.assert_close(gradients(frozen, hidden, model)["hidden"], expected, rtol=1e-10, atol=1e-12)


def test_a_head_can_be_trained_on_frozen_states() -> None:
    model, (hidden, targets) = make_model("Phi, with a bias"), states(5)
    expected = gradients(expected_logps(hidden, targets, model, "Phi"), hidden, model)
    token_logps(hidden.detach(), targets, model)[0].backward(torch.linspace(-1, 2, 5, dtype=torch.float64))
    torch.testing.assert_close(model.lm_head.weight.grad, expected["weight"])
    torch.testing.assert_close(model.lm_head.bias.grad, expected["bias"])


@pytest.mark.parametrize("frozen", [False, True])
def test_no_trained_token_is_no_value_and_no_gradient(frozen: bool) -> None:
    model, (hidden, targets) = make_model("Phi, with a bias"), states(0)
    model.lm_head.requires_grad_(not frozen)
    values = token_logps(hidden, targets, model)[0]
    assert values.shape == (0,)
    values.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.shape == (0, WIDTH)
    if not frozen:
        assert not model.lm_head.weight.grad.any()


def test_without_gradient_nothing_is_kept() -> None:
    model, (hidden, targets) = make_model("Llama, a plain matrix"), states(5)
    with torch.no_grad():
        assert token_logps(hidden, targets, model)[0].grad_fn is None


@pytest.mark.parametrize("frozen", [False, True])
def test_under_autocast_values_are_float32_and_near(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The product is bfloat16, which keeps 8 bits: logits here reach 5, so a value is within 5 * 2^-8 * 2 of exact."""
    monkeypatch.setattr(score, "CHUNK_ELEMENTS", 1)
    model, (hidden, targets) = make_model("Llama, a plain matrix", torch.float32), states(150, torch.float32)
    exact = expected_logps(hidden, targets, model, "Llama")
    expected = gradients(exact, hidden, model)
    model.lm_head.requires_grad_(not frozen)
    with torch.autocast("cpu", torch.bfloat16):
        values = token_logps(hidden, targets, model)[0]
    found = gradients(values, hidden, model)
    assert values.dtype == torch.float32
    assert 1e-4 < (values - exact).abs().max() < 0.04
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert (gradient - expected[name]).norm() < 0.02 * expected[name].norm()


def test_bfloat16_weights_give_float32_values() -> None:
    model, (hidden, targets) = make_model("Llama, a plain matrix", torch.bfloat16), states(20, torch.bfloat16)
    values = token_logps(hidden, targets, model)[0]
    assert values.dtype == torch.float32
    exact = expected_logps(hidden.float(), targets, model.float(), "Llama")
    assert (values - exact).abs().max() < 0.04


# Heads that peft changes ---------------------------------------------------------------------------------------------


def adapted(tied: bool = False, head: str = "Llama, a plain matrix", **lora: Any) -> Any:
    """A model whose head an adapter trains too; B is drawn, for an untrained adapter adds nothing."""
    kind, size = HEADS[head]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **size, tie_word_embeddings=tied))
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, **lora)).eval()
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3 if "lora" in name else 1.0)
    return wrapped


ADAPTED: dict[str, Callable[[], Any]] = {
    "LoRA on the head": lambda: adapted(target_modules=["q_proj", "lm_head"]),
    "LoRA on a capped head": lambda: adapted(target_modules=["lm_head"], head="Gemma 2, capped at 1.5"),
    "LoRA on a scaled head": lambda: adapted(target_modules=["lm_head"], head="Granite, divided by 4"),
    "a trained copy of the head": lambda: adapted(target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "trained rows of tied embeddings": lambda: adapted(
        tied=True, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [9, 10]}
    ),
    "trained rows of the head": lambda: adapted(
        target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [9, 10], "lm_head": [9, 10]}
    ),
}


def segment(ids: list[int], parent: int = -1, trained: bool = True, rank: int | None = None) -> Segment:
    return Segment(np.array(ids, dtype=np.int32), np.full(len(ids), trained), parent, rank)


PAIR = Row(
    "pair",
    (segment([3, 4, 5, 6], trained=False), segment([7, 8, 9, 2], 0, rank=0), segment([10, 3, 2], 0, rank=1)),
)
WAYS: tuple[Way, ...] = ("shared", "packed", "alone")
CONVERSATION = Row("conversation", (segment([3, 9, 4, 10, 2]),))


# peft 0.21 asks the model for a property that transformers 5.23 renamed
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("adapter", ADAPTED)
def test_an_adapted_head_is_scored_and_trained_as_the_model_computes_it(adapter: str) -> None:
    """Against one-by-one scoring, which takes the model's own logits: values, and the gradient of every parameter."""
    batch = make_batch([PAIR, CONVERSATION])
    weights = torch.linspace(-1, 2, batch.trained_tokens)
    found: list[tuple[Tensor, dict[str, Tensor]]] = []
    for way in (*WAYS, "the model's own logits"):
        model = ADAPTED[adapter]()
        values = Scorer(model, way=way)(batch).values if way in WAYS else Scorer(model).one_by_one(batch).values
        (values * weights).sum().backward()
        found.append((values, {name: each.grad for name, each in model.named_parameters() if each.requires_grad}))
    *ways, (theirs, their_gradients) = found
    for ours, our_gradients in ways:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        for name, gradient in their_gradients.items():
            assert gradient.any(), name
            assert (our_gradients[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


# The scorer ----------------------------------------------------------------------------------------------------------


def test_a_batch_that_trains_nothing_scores_to_nothing(tiny_llama: Any) -> None:
    untrained = Row("untrained", (segment([3, 4, 5], trained=False),))
    for way in WAYS:
        logps = Scorer(tiny_llama, way=way)(make_batch([untrained]))
        assert logps.values.shape == (0,)
        assert logps.sum().tolist() == [0]


def test_turning_sharing_off_gives_the_model_its_usual_attention_back(tiny_llama: Any) -> None:
    scorer = Scorer(tiny_llama)
    assert tiny_llama.config._attn_implementation == NAME
    scorer.compute("alone")
    assert tiny_llama.config._attn_implementation == usual_attention(tiny_llama) == "sdpa"
    scorer.compute("shared")
    assert tiny_llama.config._attn_implementation == NAME


def test_capped_attention_is_usually_eager() -> None:
    """Transformers' sdpa would leave the cap out."""
    assert usual_attention(make_model("Gemma 2, capped at 1.5")) == "eager"


def test_logps_know_their_segments_and_pairs(tiny_llama: Any) -> None:
    with torch.no_grad():
        logps = Scorer(tiny_llama)(make_batch([CONVERSATION, PAIR]))
    assert logps.length().tolist() == [4, 0, 4, 3]
    assert (logps.chosen.tolist(), logps.rejected.tolist()) == ([2], [3])


def test_under_autocast_sharing_is_near_exact_scoring(tiny_llama: Any) -> None:
    """The check before training allows 0.08 nats per token on average."""
    scorer, batch = Scorer(tiny_llama), make_batch([PAIR, CONVERSATION])
    with torch.no_grad():
        exact = scorer(batch).values
        with torch.autocast("cpu", torch.bfloat16):
            rounded = scorer(batch).values
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.08


# The check before training -------------------------------------------------------------------------------------------

CPU = Hardware(torch.device("cpu"), torch.float32, autocast=False)


@pytest.mark.parametrize("wanted", ["auto", "on"])
def test_a_model_that_can_share_is_said_to_be_equal(tiny_llama: Any, wanted: str) -> None:
    scorer = Scorer(tiny_llama)
    sentence = check_sharing(scorer, [PAIR, CONVERSATION], CPU, wanted)
    assert scorer.way == "shared"
    assert sentence.startswith("prefix sharing checked on 2 rows: equal to one by one within")


def test_sharing_can_be_turned_off(tiny_llama: Any) -> None:
    scorer = Scorer(tiny_llama)
    sentence = check_sharing(scorer, [PAIR], CPU, "off")
    assert sentence.startswith("packing without prefix sharing checked on 2 rows")
    assert scorer.way == "packed"


@pytest.mark.parametrize("training", [True, False])
def test_the_check_leaves_the_mode_as_it_was(tiny_llama: Any, training: bool) -> None:
    scorer = Scorer(tiny_llama).train(training)
    check_sharing(scorer, [PAIR], CPU, "auto")
    assert scorer.training is training
