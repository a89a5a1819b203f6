"""Model families: shared scoring is one-by-one scoring, and a model that cannot share says so and is scored exactly.

The oracle is `Scorer.one_by_one`: every sequence alone, the model's usual attention, the logits it returns itself.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from poise.batch.batch import make_batch
from poise.batch.logps import Logps
from poise.batch.pack import joined
from poise.batch.row import Row, Segment
from poise.batch.score import Scorer
from poise.errors import ModelError
from poise.train.check import check_sharing
from poise.train.model import Hardware

VOCABULARY = 64
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
HEADS = SIZE | {"head_dim": 8}
EXPERTS = HEADS | {"num_experts_per_tok": 2, "output_router_logits": True, "router_aux_loss_coef": 0.5}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("llama", HEADS),
    "Mistral, window of 5": ("mistral", HEADS | {"sliding_window": 5}),
    "Qwen2": ("qwen2", SIZE),
    "Qwen3": ("qwen3", HEADS),
    "Gemma 2, capped, window of 5 in one layer of two": (
        "gemma2",
        HEADS | {"sliding_window": 5, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    ),
    "Gemma 3, window of 5 in five layers of six": (
        "gemma3_text",
        HEADS | {"num_hidden_layers": 6, "sliding_window": 5, "query_pre_attn_scalar": 16},
    ),
    "Gemma 3n, embeddings of every layer": (
        "gemma3n_text",
        HEADS
        | {
            "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"], "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY, "laurel_rank": 4,
            "altup_num_inputs": 2, "intermediate_size": [48, 48], "activation_sparsity_pattern": [0.0, 0.0],
        },
    ),
    "Phi-3, window of 5": ("phi3", SIZE | {"sliding_window": 5}),
    "SmolLM3, a layer without positions": ("smollm3", SIZE | {"no_rope_layers": [1, 0]}),
    "OLMo 2": ("olmo2", SIZE),
    "Granite 4, attention alone": (
        "granitemoehybrid",
        SIZE
        | {"layer_types": ["attention"] * 2, "num_local_experts": 0, "shared_intermediate_size": 16}
        | {"mamba_n_heads": 4, "mamba_d_head": 16},
    ),
    "HyperCLOVA X, logits times 0.5": ("hyperclovax", SIZE | {"logits_scaling": 0.5}),
    "GPT-2, learned positions": (
        "gpt2",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "GPT-NeoX, rotary positions in a quarter": ("gpt_neox", SIZE),
    "Mixtral, router loss": ("mixtral", EXPERTS | {"num_local_experts": 4}),
    "Qwen2-MoE, router loss": ("qwen2_moe", EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16}),
    "Qwen3-MoE, router loss": ("qwen3_moe", EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16}),
    "DeepSeek-V3, latent attention": (
        "deepseek_v3",
        SIZE
        | {
            "num_key_value_heads": 4, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
            "num_experts_per_tok": 2, "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8,
            "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
        },
    ),
}  # fmt: skip
EXACT = ["GPT-2, learned positions", "GPT-NeoX, rotary positions in a quarter"]
"""Every operation of these is float64 in a float64 model; the others normalise in float32 under any dtype."""
STATES = {"mamba_d_state": 4, "mamba_chunk_size": 4}
WITHOUT_SHARING: dict[str, tuple[str, dict[str, Any], str]] = {
    "Mamba, a state and no attention": ("mamba", SIZE | {"state_size": 4}, "2 of 2 layers do not attend"),
    "Jamba, a state, then attention": (
        "jamba",
        SIZE
        | {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 4}
        | {"num_experts": 2, "num_experts_per_tok": 1, "use_mamba_kernels": False},
        "1 of 2 layers do not attend",
    ),
    "Bamba, a state, then attention": (
        "bamba",
        SIZE | STATES | {"mamba_n_heads": 4, "mamba_d_head": 16, "attn_layer_indices": [1]},
        "1 of 2 layers do not attend",
    ),
    "Zamba2, a state, then both": (
        "zamba2",
        SIZE
        | {"mamba_d_state": 4, "n_mamba_heads": 4, "mamba_headdim": 16, "chunk_size": 4, "num_mem_blocks": 1}
        | {"layers_block_type": ["mamba", "hybrid"], "hybrid_layer_ids": [1]},
        "1 of 2 layers do not attend",
    ),
    "Falcon-H1, a state beside attention in every layer": (
        "falcon_h1",
        HEADS | STATES | {"mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "lm_head_multiplier": 0.5},
        "a state or a convolution from token to token",
    ),
    "RecurrentGemma, a state, capped logits": (
        "recurrent_gemma",
        SIZE | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16, "logits_soft_cap": 3.0},
        "2 of 3 layers do not attend",
    ),
    "LFM2, a convolution, then attention": (
        "lfm2",
        SIZE | {"layer_types": ["conv", "full_attention"]},
        "1 of 2 layers do not attend",
    ),
    "Bloom, attention code of its own": (
        "bloom",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4},
        "2 of 2 layers do not attend",
    ),
    "GPT-OSS, attention sinks": ("gpt_oss", HEADS | {"num_local_experts": 2, "num_experts_per_tok": 1}, "s_aux"),
    "Llama 4, attention in chunks": (
        "llama4_text",
        HEADS | {"attention_chunk_size": 8, "num_local_experts": 2},
        "attention_chunk_size",
    ),
}
GENERAL = HEADS | {
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "d_model": 32, "n_heads": 4, "n_layers": 2,
    "ffn_dim": 48, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "state_size": 4,
}  # fmt: skip
"""Sizes under the names that most configs use; each takes those it knows."""
TESTED = {kind: size for kind, size, *_ in (*FAMILIES.values(), *WITHOUT_SHARING.values())}
SPECIAL: dict[str, dict[str, Any]] = {
    "gemma4_text": {key: value for key, value in HEADS.items() if key != "head_dim"}
    | {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY, "num_kv_shared_layers": 0}
    | {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    "deepseek_v2": {"num_hidden_layers": 2, **FAMILIES["DeepSeek-V3, latent attention"][1]},
    "gptj": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
    "gpt_neo": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4}
    | {"attention_types": [[["global", "local"], 1]], "window_size": 5},
    "falcon": SIZE,
    "mamba2": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
    | {"num_heads": 4, "head_dim": 16, "chunk_size": 4, "n_groups": 1},
    "lfm2_moe": GENERAL | {"layer_types": ["conv", "full_attention"]},
    "olmo_hybrid": SIZE,
}
PAGE = Path(__file__).parents[2] / "docs" / "batch-and-prefix-sharing.md"
CPU = Hardware(torch.device("cpu"), torch.float32, autocast=False)


def make_model(kind: str, size: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """Wide random weights, so that attention, routing and logits are far from uniform."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **size))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.to(dtype).eval()


def segment(draw: np.random.Generator, tokens: int, parent: int = -1, trained: bool = True) -> Segment:
    return Segment(draw.integers(3, VOCABULARY, tokens).astype(np.int32), np.full(tokens, trained), parent)


def some_rows() -> list[Row]:
    """Rows of every shape; prompts, answers and conversations are longer than a window of 5."""
    draw = np.random.default_rng(0)

    def answered(prompt: int, *answers: int) -> Row:
        segments = (segment(draw, prompt, trained=False), *(segment(draw, answer, 0) for answer in answers))
        return Row(f"{prompt} + {answers}", segments)

    conversation = segment(draw, 12)
    conversation.trained[3:6] = False
    return [
        answered(9, 7, 3),
        joined([Row("packed", (conversation,)), Row("beside it", (segment(draw, 6),))]),
        answered(6, 4, 8, 2, 5),
        Row("a segment longer than the window", (segment(draw, 14),)),
        answered(0, 5, 4),
        answered(7, 1, 1),
        answered(1, 6, 1),
    ]


def with_gradients(model: Any, score: Callable[[Scorer], Logps], way: str) -> tuple[Logps, dict[str, Tensor]]:
    """Logps, and the gradient of a sum in which every token and row has a weight of its own, of either sign."""
    logps = score(Scorer(model, way=way))
    draw = np.random.default_rng(1)
    total = (logps.values * torch.from_numpy(draw.normal(size=len(logps.values)))).sum()
    if logps.router is not None:
        total = total + (logps.router * torch.from_numpy(draw.normal(size=len(logps.router)))).sum()
    total.backward()
    return logps, {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_equal_to_one_by_one(kind: str, size: dict[str, Any], way: str, dtype: torch.dtype, within: float) -> None:
    """Values and router losses within `within`, the gradient of every parameter within `within` of its norm."""
    batch = make_batch(some_rows())
    ours, our_gradients = with_gradients(make_model(kind, size, dtype), lambda scorer: scorer(batch), way)
    theirs, their_gradients = with_gradients(
        make_model(kind, size, dtype), lambda scorer: scorer.one_by_one(batch), way
    )
    assert (ours.values - theirs.values).abs().max() <= within
    assert (ours.router is not None) == size.get("output_router_logits", False)
    if ours.router is not None and theirs.router is not None:
        assert ours.router.shape == (len(batch.rows),)
        assert (ours.router - theirs.router).abs().max() <= within
    assert our_gradients.keys() == their_gradients.keys()
    # a key's bias adds the same to all scores of a query: its true gradient is 0, and both have only rounding there
    scale = max(gradient.norm() for gradient in their_gradients.values())
    for name, gradient in their_gradients.items():
        assert (our_gradients[name] - gradient).norm() <= within * max(gradient.norm(), 1e-3 * scale), name


# What the page says --------------------------------------------------------------------------------------------------


def documented() -> dict[str, str]:
    """Model type -> `shared` or `one by one`, from the page's table."""
    rows = re.findall(r"^\| (`[^|]+`) \| (shared|one by one) \|", PAGE.read_text(), re.MULTILINE)
    return {kind: way for kinds, way in rows for kind in re.findall(r"`(\w+)`", kinds)}


def test_every_model_tested_here_stands_on_the_page() -> None:
    sharing = {kind for kind, _ in FAMILIES.values()} - {"granitemoehybrid"}
    assert sharing <= {kind for kind, way in documented().items() if way == "shared"}
    assert TESTED.keys() - sharing - {"granitemoehybrid"} <= {
        kind for kind, way in documented().items() if way == "one by one"
    }


@pytest.mark.parametrize("kind", sorted(documented().keys() - TESTED.keys()))
def test_any_other_model_type_is_computed_as_the_page_says(kind: str) -> None:
    known = SPECIAL.get(kind) or {
        key: value for key, value in GENERAL.items() if hasattr(AutoConfig.for_model(kind), key)
    }
    scorer = Scorer(make_model(kind, known))
    check_sharing(scorer, some_rows(), CPU, "auto")
    assert {"shared": "shared", "alone": "one by one"}[scorer.way] == documented()[kind]


# Models that share ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["shared", "packed", "alone"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_is_one_by_one_in_float32(family: str, way: str) -> None:
    assert_equal_to_one_by_one(*FAMILIES[family], way, torch.float32, within=2e-5)


@pytest.mark.parametrize("way", ["shared", "packed", "alone"])
@pytest.mark.parametrize("family", EXACT)
def test_every_way_is_one_by_one_in_float64(family: str, way: str) -> None:
    assert_equal_to_one_by_one(*FAMILIES[family], way, torch.float64, within=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_shares_is_never_sent_back(family: str) -> None:
    scorer = Scorer(make_model(*FAMILIES[family]))
    sentence = check_sharing(scorer, some_rows(), CPU, "on")
    assert scorer.way == "shared"
    assert sentence.startswith("prefix sharing checked on 7 rows: equal to one by one within")


# Models that do not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITHOUT_SHARING)
def test_a_model_that_cannot_share_says_why_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind, size, reason = WITHOUT_SHARING[name]
    scorer = Scorer(make_model(kind, size))
    sentence = check_sharing(scorer, some_rows(), CPU, "auto")
    assert (scorer.way, scorer.own_logits) == ("alone", False)
    assert sentence.startswith(f"prefix sharing does not fit {kind} (")
    assert reason in sentence
    assert sentence.endswith("); every sequence is computed alone")
    assert "\n" not in sentence
    assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", WITHOUT_SHARING)
def test_insisting_on_sharing_stops_where_a_model_cannot(name: str) -> None:
    kind, size, reason = WITHOUT_SHARING[name]
    with pytest.raises(
        ModelError, match=f"prefix_sharing: on, but for {kind} .*{reason}.*\n    to do:  set prefix_sharing=auto"
    ):
        check_sharing(Scorer(make_model(kind, size)), some_rows(), CPU, "on")


@pytest.mark.parametrize("name", WITHOUT_SHARING)
def test_falling_back_gives_the_models_own_values_and_gradients(name: str) -> None:
    kind, size, _ = WITHOUT_SHARING[name]
    assert_equal_to_one_by_one(kind, size, "alone", torch.float32, within=2e-5)


def test_one_by_one_is_the_log_softmax_of_the_models_logits() -> None:
    """Else all of the above would compare two computations of ours."""
    model = make_model(*WITHOUT_SHARING["Jamba, a state, then attention"][:2])
    row = some_rows()[0]
    prompt, chosen, rejected = (each.ids.tolist() for each in row.segments)
    with torch.no_grad():
        expected = []
        for answer in (chosen, rejected):
            logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
            expected.append(logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None])[:, 0])
        found = Scorer(model, way="alone").one_by_one(make_batch([row])).values
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-6)


def test_one_row_is_enough_to_find_a_state_beside_attention() -> None:
    """A row of one segment scores the same both ways, so the difference alone would not show it."""
    kind, size, _ = WITHOUT_SHARING["Falcon-H1, a state beside attention in every layer"]
    scorer = Scorer(make_model(kind, size))
    with pytest.raises(ModelError, match="a state or a convolution"):
        scorer(make_batch(some_rows()[3:4]))


def test_falling_back_keeps_no_logits_for_the_backward_pass() -> None:
    """What autograd saves is narrower than the vocabulary, but for the weight of the projection itself."""
    kind, size, _ = WITHOUT_SHARING["Mamba, a state and no attention"]
    model = make_model(kind, size | {"vocab_size": 991})
    saved: list[torch.Size] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    batch = make_batch(some_rows())
    for own_logits, kept in ((False, False), (True, True)):
        saved.clear()
        scorer = Scorer(model, way="alone")
        scorer.own_logits = own_logits
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            scorer(batch)
        assert saved
        assert any(shape[-1:] == (991,) and shape != model.lm_head.weight.shape for shape in saved) == kept


def test_positions_that_stretch_with_the_longest_sequence_are_not_shared() -> None:
    """LongRoPE above 16 tokens: beside a longer row another takes other frequencies, and no short row shows it."""
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0}
    factors = {"short_factor": [1.0] * 4, "long_factor": [8.0] * 4}
    model = make_model("phi3", SIZE | {"original_max_position_embeddings": 16, "rope_parameters": rope | factors})
    draw = np.random.default_rng(0)
    short, long = Row("short", (segment(draw, 12),)), Row("long", (segment(draw, 20),))
    scorer = Scorer(model)
    with torch.no_grad():
        beside = scorer(make_batch([short, long])).values[:11]
        assert (beside - scorer(make_batch([short])).values).abs().max() > 0.01
    assert check_sharing(scorer, [short, short], CPU, "on").startswith("prefix sharing checked")
    sentence = check_sharing(scorer, [short] * 16 + [long], CPU, "auto")
    assert "(longrope positions stretch beyond 16 tokens, the longest sequence has 20)" in sentence
    assert (scorer.way, scorer.own_logits) == ("alone", False)


class Halved(LlamaForCausalLM):
    """A model that does something to its logits which poise knows nothing of."""

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        output = super().forward(*arguments, **keywords)
        output.logits = output.logits / 2
        return output


def test_a_projection_that_is_not_understood_is_left_to_the_model() -> None:
    torch.manual_seed(0)
    scorer = Scorer(Halved(LlamaConfig(**HEADS, initializer_range=0.3)).eval())
    sentence = check_sharing(scorer, some_rows(), CPU, "auto")
    assert (scorer.way, scorer.own_logits) == ("alone", True)
    assert "every sequence is computed alone, with logits over the whole vocabulary" in sentence
    batch = make_batch(some_rows())
    with torch.no_grad():
        assert torch.equal(scorer(batch).values, scorer.one_by_one(batch).values)


def test_every_way_finds_the_collision_of_the_predictions() -> None:
    """log sum_v p_v^2, derived from the model's own logits."""
    model, batch = make_model(*FAMILIES["Llama"]), make_batch(some_rows())
    scorer = Scorer(model, way="alone")
    scorer.with_collision = scorer.own_logits = True
    with torch.no_grad():
        expected = scorer(batch).collision
        scorer.own_logits = False
        for way in ("shared", "packed", "alone"):
            scorer.compute(way)
            torch.testing.assert_close(scorer(batch).collision, expected, rtol=0, atol=1e-5)
