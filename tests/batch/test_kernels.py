"""Every kernel computes the same attention; those for CUDA are driven through stand-ins that say what they do."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig

from poise.batch import kernels
from poise.batch.batch import Layout
from poise.batch.kernels import KERNELS, Rule, choose_kernel, eager, flex, sdpa, varlen

LAYOUTS = {
    "two pairs": Layout([6, 4, 3, 5, 4, 7], [(), (0,), (0,), (), (3,), (3,)]),
    "answers as long as one another": Layout([5, 3, 3, 3], [(), (0,), (0,), (0,)]),
    "packed": Layout([4, 4, 9], [(), (), ()]),
    "a tree": Layout([3, 2, 1, 4], [(), (0,), (0, 1), (0, 1)]),
    "one-token answers": Layout([7, 1, 1], [(), (0,), (0,)]),
    "an empty answer": Layout([4, 0, 3], [(), (0,), (0,)]),
}
RULES = {
    "plain": Rule(),
    "window": Rule(window=3),
    "capped": Rule(softcap=2.0),
    "scaled": Rule(scaling=0.7),
    "window wider than all": Rule(window=100),
}


def heads(layout: Layout, dtype: torch.dtype = torch.float64, kv_heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    shapes = ((4, sum(layout.lengths), 16), (kv_heads, sum(layout.lengths), 16), (kv_heads, sum(layout.lengths), 16))
    query, key, value = (torch.randn(1, *shape, dtype=dtype, requires_grad=True) for shape in shapes)
    return query, key, value


def spelled_out(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """One token at a time: the definition."""
    starts = [sum(layout.lengths[:index]) for index in range(len(layout.lengths))]
    key, value = key.repeat_interleave(2, dim=1), value.repeat_interleave(2, dim=1)
    outputs: list[Tensor] = []
    for index, ancestors in enumerate(layout.ancestors):
        before = [starts[step] + offset for step in ancestors for offset in range(layout.lengths[step])]
        for offset in range(layout.lengths[index]):
            token = starts[index] + offset
            seen = [*before, *range(starts[index], token + 1)]
            seen = seen[-rule.window :] if rule.window else seen
            scores = (query[0, :, token, None] * key[0][:, seen]).sum(-1)
            scores = scores * (16**-0.5 if rule.scaling is None else rule.scaling)
            scores = rule.softcap * torch.tanh(scores / rule.softcap) if rule.softcap else scores
            outputs.append((scores.softmax(-1)[..., None] * value[0][:, seen]).sum(1))
    return torch.stack(outputs, dim=1)[None]


def gradients(output: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), inputs)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", [sdpa, eager])
def test_values_and_gradients_are_those_of_the_definition(kernel: Any, layout: str, rule: str) -> None:
    inputs = heads(LAYOUTS[layout])
    ours = kernel(*inputs, LAYOUTS[layout], RULES[rule])
    theirs = spelled_out(*inputs, LAYOUTS[layout], RULES[rule])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for found, expected in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_flex_attention_is_given_the_same_rule(layout: str, rule: str) -> None:
    """Run by its plain implementation, which the CPU has; the compiled one follows the same mask and score."""
    inputs = tuple(each.detach() for each in heads(LAYOUTS[layout], torch.float32))
    with torch.no_grad():
        ours = flex(*inputs, LAYOUTS[layout], RULES[rule])
        theirs = spelled_out(*inputs, LAYOUTS[layout], RULES[rule])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.fixture
def varlen_spelled_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What FlashAttention documents of its varlen call, in float32: causal, both ends aligned, a window to the left."""

    def call(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, *rest: Any) -> Tensor:
        max_q, max_k, rule, (left, right) = rest
        assert right == 0 and q.dtype == torch.bfloat16 and cu_q.dtype == cu_k.dtype == torch.int32
        assert max_q == (cu_q[1:] - cu_q[:-1]).max() and max_k == (cu_k[1:] - cu_k[:-1]).max()
        outputs: list[Tensor] = []
        for start_q, end_q, start_k, end_k in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True):
            sequence = (each.float().transpose(0, 1) for each in (q[start_q:end_q], k[start_k:end_k], v[start_k:end_k]))
            one, keys, values = sequence
            keys, values = keys.repeat_interleave(2, dim=0), values.repeat_interleave(2, dim=0)
            behind = torch.arange(len(keys[0]))[None, :] - torch.arange(len(one[0]))[:, None]
            behind = len(keys[0]) - len(one[0]) - behind
            hidden = (behind < 0) | ((behind > left) if left >= 0 else torch.zeros_like(behind, dtype=torch.bool))
            scores = one @ keys.transpose(1, 2) * (16**-0.5 if rule.scaling is None else rule.scaling)
            outputs.append((scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values).transpose(0, 1))
        return torch.cat(outputs).bfloat16()

    monkeypatch.setattr(kernels, "_varlen_call", lambda: call)
    yield


@pytest.mark.usefixtures("varlen_spelled_out")
@pytest.mark.parametrize("rule", [name for name in RULES if name != "capped"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_varlen_call_lists_for_each_segment_what_it_sees(layout: str, rule: str) -> None:
    """Within the rounding of bfloat16: 2^-8 of values near 1."""
    inputs = heads(LAYOUTS[layout], torch.float32)
    ours = varlen(*inputs, LAYOUTS[layout], RULES[rule])
    theirs = spelled_out(*inputs, LAYOUTS[layout], RULES[rule])
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().max() < 0.05
    for found, expected in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        assert (found - expected).norm() < 0.03 * expected.norm()


def test_16_bits_are_attended_in_float32_on_the_cpu() -> None:
    """The error is that of rounding inputs and output, not of the products between."""
    layout = LAYOUTS["two pairs"]
    query, key, value = (each.detach().bfloat16() for each in heads(layout, torch.float32))
    ours = sdpa(query, key, value, layout, Rule())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sdpa(query, key, value, layout, Rule()), ours)
    exact = spelled_out(query.float(), key.float(), value.float(), layout, Rule())
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, exact.bfloat16(), rtol=0, atol=0.01)


# Which one -----------------------------------------------------------------------------------------------------------

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("asked", "kernel", "note"),
    [
        (None, "sdpa", None),
        ("sdpa", "sdpa", None),
        ("eager", "eager", None),
        ("flash_attention_2", "sdpa", "flash_attention_2 cannot be had (it runs on CUDA, this is cpu); sdpa computes"),
        ("flash_attention_3", "sdpa", "flash_attention_3 cannot be had"),
        ("flex_attention", "sdpa", "flex_attention cannot be had (it runs on CUDA, this is cpu)"),
    ],
)
def test_what_a_cpu_gets(asked: str | None, kernel: str, note: str | None) -> None:
    found, said = choose_kernel(asked, CPU, torch.bfloat16, LlamaConfig())
    assert found == kernel
    assert said is None if note is None else note in (said or "")


@pytest.mark.parametrize(
    ("asked", "dtype", "config", "kernel", "note"),
    [
        (None, torch.bfloat16, {}, "varlen", None),
        (None, torch.float32, {}, "sdpa", None),
        ("flash_attention_2", torch.bfloat16, {}, "varlen", None),
        ("flash_attention_2", torch.float32, {}, "sdpa", "computes in 16 bits, this run in float32"),
        ("flash_attention_2", torch.bfloat16, {"attn_logit_softcapping": 50.0}, "sdpa", "caps its logits"),
        (None, torch.bfloat16, {"attention_dropout": 0.1}, "sdpa", None),
        ("eager", torch.bfloat16, {}, "eager", None),
    ],
)
def test_what_cuda_gets(
    asked: str | None, dtype: torch.dtype, config: dict[str, Any], kernel: str, note: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(kernels, "find_spec", lambda _: None)
    found, said = choose_kernel(asked, CUDA, dtype, LlamaConfig(**config))
    assert found == kernel
    assert said is None if note is None else note in (said or "")


def test_an_old_gpu_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    found, said = choose_kernel("flash_attention_2", CUDA, torch.float16, LlamaConfig())
    assert (found, "compute capability 8.0" in (said or "")) == ("sdpa", True)


def test_every_kernel_can_be_named() -> None:
    assert set(kernels.ASKED.values()) == set(KERNELS)
