"""Attention within segments is the function that padded and one-by-one computation give, values and gradients.

The oracle is plain transformers: every root-to-leaf sequence a row of a padded batch with an attention mask.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from poise.batch.attention import NAME, segment_attention, use_attention
from poise.batch.batch import Layout, make_batch, unshared
from poise.batch.row import Row, Segment
from poise.batch.score import Scorer, usual_attention
from poise.errors import ModelError

SIZE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
SOFT_CAPPED = "Gemma 2, soft caps, window of 5 every other layer"
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama, grouped heads": ("llama", SIZE),
    "Mistral, window of 5": ("mistral", SIZE | {"sliding_window": 5}),
    "Qwen2, biased projections": ("qwen2", SIZE),
    "Qwen2, full then window of 4": (
        "qwen2",
        SIZE | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "Qwen3, normalised heads": ("qwen3", SIZE),
    SOFT_CAPPED: (
        "gemma2",
        SIZE
        | {
            "sliding_window": 5,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
            "query_pre_attn_scalar": 8,
        },
    ),
    "Gemma 3, window of 5": ("gemma3_text", SIZE | {"sliding_window": 5, "query_pre_attn_scalar": 16}),
    "Cohere, scaled logits": ("cohere", SIZE | {"logit_scale": 0.25}),
    "Granite, scaled everywhere": ("granite", SIZE | {"logits_scaling": 4.0, "attention_multiplier": 0.2}),
    "GPT-2, learned positions": (
        "gpt2",
        {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "Mixtral, experts": ("mixtral", SIZE | {"sliding_window": 5, "num_local_experts": 2}),
}
EXACT: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2, learned positions": FAMILIES["GPT-2, learned positions"],
    "GPT-NeoX, parallel layers": ("gpt_neox", {k: v for k, v in SIZE.items() if k not in ("head_dim", "pad_token_id")}),
    "StarCoder2, grouped heads, window of 5": ("starcoder2", SIZE | {"sliding_window": 5}),
}
"""Every operation of these is float64 in a float64 model; the others normalise in float32 under any dtype."""


def segment(generator: np.random.Generator, tokens: int, parent: int = -1, trained: bool = True) -> Segment:
    return Segment(generator.integers(1, 64, tokens).astype(np.int32), np.full(tokens, trained), parent)


def some_rows() -> list[Row]:
    """Two pairs, a conversation with a masked stretch, and two trees three segments deep; all longer than a window.

    The last tree lists a leaf before another branch's inner segment, so spelling it out changes the order of tokens.
    """
    draw = np.random.default_rng(0)
    conversation = segment(draw, 12)
    conversation.trained[3:6] = False
    return [
        Row("pair", (segment(draw, 9, trained=False), segment(draw, 7, 0), segment(draw, 3, 0))),
        Row("conversation", (conversation,)),
        Row("short prompt", (segment(draw, 1, trained=False), segment(draw, 5, 0), segment(draw, 11, 0))),
        Row(
            "tree",
            (
                segment(draw, 4, trained=False),
                segment(draw, 3, 0),
                segment(draw, 6, 1),
                segment(draw, 2, 1),
                segment(draw, 6, 0),
            ),
        ),
        Row(
            "breadth first",
            (
                segment(draw, 2, trained=False),
                segment(draw, 3, 0),
                segment(draw, 6, 0),
                segment(draw, 4, 1),
            ),
        ),
    ]


def make_model(family: str, dtype: torch.dtype = torch.float32) -> Any:
    """Wide random weights, so that attention and logits are far from uniform; dropout off."""
    kind, size = (FAMILIES | EXACT)[family]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **size))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.2)
    return model.to(dtype).eval()


# The oracle: padded batches ------------------------------------------------------------------------------------------


def paths(row: Row) -> Iterator[list[int]]:
    """Segments from a root to each leaf."""
    parents = {each.parent for each in row.segments}
    for leaf in range(len(row.segments)):
        if leaf not in parents:
            path = [leaf]
            while row.segments[path[0]].parent >= 0:
                path.insert(0, row.segments[path[0]].parent)
            yield path


def padded_logps(model: Any, rows: list[Row], side: str) -> Tensor:
    """Log-probabilities of the trained tokens in segment order, from one padded batch of all sequences."""
    sequences = [(number, path) for number, row in enumerate(rows) for path in paths(row)]
    ids = [np.concatenate([rows[number].segments[step].ids for step in path]) for number, path in sequences]
    longest = max(map(len, ids))
    input_ids, mask = torch.zeros(len(ids), longest, dtype=torch.long), torch.zeros(len(ids), longest, dtype=torch.long)
    first = [0 if side == "right" else longest - len(each) for each in ids]
    for index, each in enumerate(ids):
        input_ids[index, first[index] : first[index] + len(each)] = torch.from_numpy(each)
        mask[index, first[index] : first[index] + len(each)] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=input_ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    found: dict[tuple[int, int], Tensor] = {}
    for index, (number, path) in enumerate(sequences):
        start = first[index]
        for step in path:
            one = rows[number].segments[step]
            places = [start + int(place) for place in np.flatnonzero(one.trained) if start + place > first[index]]
            logps = logits[index, [place - 1 for place in places]].log_softmax(-1)
            found.setdefault((number, step), logps.gather(1, input_ids[index, places][:, None])[:, 0])
            start += len(one)
    return torch.cat([found[key] for key in sorted(found)])


# The ways poise computes ---------------------------------------------------------------------------------------------


def shared(model: Any, rows: list[Row]) -> Tensor:
    return Scorer(model)(make_batch(rows)).values


def row_by_row(model: Any, rows: list[Row]) -> Tensor:
    scorer = Scorer(model)
    return torch.cat([scorer(make_batch([row])).values for row in rows])


def packed_unshared(model: Any, rows: list[Row]) -> Tensor:
    """Every sequence spelled out as a row of its own in one flat batch."""
    spelled = [[row for row, _ in unshared(row)] for row in rows]
    values = Scorer(model)(make_batch([each for one in spelled for each in one])).values
    parts = []
    for row in rows:
        owners = np.concatenate([owners for _, owners in unshared(row)])
        parts.append(values[: len(owners)][torch.from_numpy(np.argsort(owners, kind="stable"))])
        values = values[len(owners) :]
    return torch.cat(parts)


def one_by_one(model: Any, rows: list[Row]) -> Tensor:
    return Scorer(model, way="alone")(make_batch(rows)).values


def checked_one_by_one(model: Any, rows: list[Row]) -> Tensor:
    return Scorer(model).one_by_one(make_batch(rows)).values


WAYS: dict[str, Callable[[Any, list[Row]], Tensor]] = {
    "packed and shared": shared,
    "row by row": row_by_row,
    "packed, nothing shared": packed_unshared,
    "one by one": one_by_one,
    "one by one, as the check does": checked_one_by_one,
    "padded on the left": lambda model, rows: padded_logps(model, rows, "left"),
}


def with_gradients(way: Callable[[Any, list[Row]], Tensor], model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Values, and the gradient of a sum in which every token has a weight of its own, of either sign."""
    values = way(model, some_rows())
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=len(values))).to(values.dtype)
    (values * weights).sum().backward()
    return values.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def padded_right(family: str, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
    model = make_model(family, dtype)
    model.set_attn_implementation(usual_attention(model))
    return with_gradients(lambda model, rows: padded_logps(model, rows, "right"), model)


def assert_same(
    ours: tuple[Tensor, dict[str, Tensor]], theirs: tuple[Tensor, dict[str, Tensor]], within: float
) -> None:
    """Values within `within` nats, every parameter's gradient within `within` of its norm."""
    assert (ours[0] - theirs[0]).abs().max() <= within
    assert ours[1].keys() == theirs[1].keys()
    # a key's bias adds the same to all scores of a query: its true gradient is 0, and both have only rounding there
    scale = max(gradient.norm() for gradient in theirs[1].values())
    for name, gradient in theirs[1].items():
        assert (ours[1][name] - gradient).norm() <= within * max(gradient.norm(), 1e-3 * scale), name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_equals_the_padded_batch_in_float32(family: str, way: str) -> None:
    ours = with_gradients(WAYS[way], make_model(family))
    assert_same(ours, padded_right(family, torch.float32), within=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", EXACT)
def test_every_way_equals_the_padded_batch_in_float64(family: str, way: str) -> None:
    ours = with_gradients(WAYS[way], make_model(family, torch.float64))
    assert_same(ours, padded_right(family, torch.float64), within=1e-12)


@pytest.mark.parametrize("family", ["Mistral, window of 5", "Gemma 3, window of 5", SOFT_CAPPED])
def test_a_window_changes_the_result(family: str) -> None:
    """Else the equality above would hold without one."""
    model = make_model(family)
    with torch.no_grad():
        windowed = shared(model, some_rows())
        wide = make_model(family)
        for module in wide.modules():
            if getattr(module, "sliding_window", None) is not None:
                module.sliding_window = 64
        wide.config.sliding_window = 64
        assert (shared(wide, some_rows()) - windowed).abs().max() > 0.01


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", ["Llama, grouped heads", "Mistral, window of 5", SOFT_CAPPED])
def test_recomputed_activations_give_the_same_gradients(family: str, reentrant: bool) -> None:
    plain = with_gradients(shared, make_model(family))
    model = make_model(family).train()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    assert_same(with_gradients(shared, model), plain, within=1e-6)


# A row and its neighbours --------------------------------------------------------------------------------------------


def a_pair(prompt: range, chosen: range, rejected: range) -> Row:
    return Row("pair", tuple(
        Segment(np.array(ids, dtype=np.int32), np.full(len(ids), index > 0), 0 if index else -1)
        for index, ids in enumerate((prompt, chosen, rejected))
    ))  # fmt: skip


def test_a_token_depends_on_its_own_path_and_on_nothing_else(tiny_llama: Any) -> None:
    """The chosen answer's log-probability has exactly no gradient in the embeddings of the rejected and of others."""
    batch = make_batch(
        [a_pair(range(10), range(10, 16), range(20, 25)), a_pair(range(30, 36), range(40, 44), range(50, 53))]
    )
    logps = Scorer(tiny_llama)(batch)
    logps.sum()[1].backward()
    gradients = tiny_llama.model.embed_tokens.weight.grad.abs().sum(dim=1)
    read = set(range(10)) | set(range(10, 15))  # the last chosen token is only predicted, never read
    assert {int(token) for token in gradients.nonzero()} == read


def test_a_row_scores_the_same_whatever_lies_beside_it(tiny_llama: Any) -> None:
    row = a_pair(range(10), range(10, 16), range(20, 25))
    scorer = Scorer(tiny_llama)
    with torch.no_grad():
        alone = scorer(make_batch([row])).values
        between = scorer(make_batch([*some_rows(), row, *some_rows()]))
    here = sum(each.trained_tokens for each in some_rows())
    torch.testing.assert_close(between.values[here : here + len(alone)], alone, rtol=0, atol=1e-5)


def test_an_empty_segment_is_passed_over(tiny_llama: Any) -> None:
    nothing = Segment(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=bool), 0)
    pair = a_pair(range(5), range(10, 13), range(20, 22))
    prompt, chosen, rejected = pair.segments
    gap = Row("gap", (prompt, nothing, Segment(chosen.ids, chosen.trained, 1), rejected))
    scorer = Scorer(tiny_llama)
    with torch.no_grad():
        torch.testing.assert_close(scorer(make_batch([gap])).values, scorer(make_batch([pair])).values)


# What is refused -----------------------------------------------------------------------------------------------------


def score(kind: str, **size: Any) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZE | size)).eval()
    with torch.no_grad():
        Scorer(model)(make_batch(some_rows()))


@pytest.mark.parametrize(
    ("kind", "size", "reason"),
    [
        ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1}, "uses s_aux"),
        ("qwen2_moe", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}, "uses sliding_window"),
        ("llama4_text", {"attention_chunk_size": 4, "num_local_experts": 2}, "uses attention_chunk_size"),
    ],
)
def test_attention_that_would_change_the_result_is_refused(kind: str, size: dict[str, Any], reason: str) -> None:
    """Sinks, and windows that the model keeps in the mask it would build and never hands over."""
    with pytest.raises(ModelError, match=reason):
        score(kind, **size)


@pytest.mark.parametrize(
    ("kind", "size", "missing"),
    [
        ("bloom", {"n_layer": 2, "n_head": 4}, "2 of 2"),
        ("gptj", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}, "2 of 2"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "1 of 2"),
    ],
)
def test_a_layer_that_does_not_attend_through_segments_is_refused(
    kind: str, size: dict[str, Any], missing: str
) -> None:
    """Own attention code swallows the segments, a convolution runs across rows."""
    with pytest.raises(ModelError, match=f"{missing} layers do not attend"):
        score(kind, **size)


def test_attention_without_segments_is_refused(tiny_llama: Any) -> None:
    """What happens when something runs the model behind the scorer's back, generation for one."""
    Scorer(tiny_llama)
    with pytest.raises(ModelError, match="does not hand extra keywords"):
        tiny_llama(input_ids=torch.tensor([[1, 2, 3]]))


def test_a_mask_is_refused(tiny_llama: Any) -> None:
    heads = torch.zeros(1, 2, 3, 8)
    with pytest.raises(ModelError, match="a mask of its own"):
        segment_attention(tiny_llama, heads, heads, heads, torch.ones(3, 3), segments=Layout([3], [()]))


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_dropout_is_honoured(tiny_llama: Any, softcap: float | None) -> None:
    """At 0.5 a weight is dropped or doubled: three draws differ from each other and from none."""
    torch.manual_seed(0)
    heads = torch.randn(1, 2, 3, 8)
    outputs = [
        segment_attention(
            tiny_llama, heads, heads, heads, None, None, rate, segments=Layout([3], [()]), softcap=softcap
        )
        for rate in (0.0, 0.5, 0.5, 0.5)
    ]
    assert len({float(output.sum()) for output, _ in outputs}) == 4


# Borrowing another attention -----------------------------------------------------------------------------------------


@contextmanager
def failing() -> Iterator[None]:
    with pytest.raises(RuntimeError, match="in between"):
        yield


def test_the_attention_comes_back_also_after_an_error(tiny_llama: Any) -> None:
    Scorer(tiny_llama)
    with failing(), use_attention(tiny_llama, "eager"):
        assert tiny_llama.config._attn_implementation == "eager"
        raise RuntimeError("in between")
    assert tiny_llama.config._attn_implementation == NAME


def test_the_model_generates_with_its_usual_attention(tiny_llama: Any) -> None:
    Scorer(tiny_llama)
    with use_attention(tiny_llama, usual_attention(tiny_llama)), torch.no_grad():
        assert tiny_llama(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 64)
