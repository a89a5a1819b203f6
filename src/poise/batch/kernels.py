"""The kernels that compute attention within segments; all are the same function.

    sdpa     one fused call for each shape of segment; any device
    eager    products and softmax spelled out; any device, and the only way here to cap logits without FlexAttention
    varlen   FlashAttention over sequences of any length in one call; CUDA, 16-bit
    flex     FlexAttention, compiled for the layout's rule of who sees whom; CUDA

Shapes: query (1, heads, tokens, dim), key and value (1, kv heads, tokens, dim) -> (1, heads, tokens, dim).
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from poise.batch.batch import Layout

KernelName = Literal["sdpa", "eager", "varlen", "flex"]


@dataclass(frozen=True)
class Rule:
    """What a layer asks of attention beside who sees whom."""

    scaling: float | None = None
    """Factor on the logits; None is dim^-0.5."""
    dropout: float = 0.0
    softcap: float | None = None
    window: int | None = None
    """Positions a token sees, itself included; None for all."""


Kernel = Callable[[Tensor, Tensor, Tensor, Layout, Rule], Tensor]


def sdpa(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Make one fused call for all segments of one shape; one that continues nothing needs no mask.

    On the CPU 16-bit inputs are attended in float32: the fused kernel's backward pass in bfloat16 takes twice as long
    for sequences of 200 tokens and as long for those of 1,000.
    """
    if rule.softcap is not None:
        return eager(query, key, value, layout, rule)
    dtype = query.dtype
    if query.device.type == "cpu" and dtype != torch.float64:
        query, key, value = query.float(), key.float(), value.float()
    queries, keys, values = _by_segment(query, key, value, layout)
    outputs: list[Tensor] = [query] * len(queries)
    for same in _same_shapes(layout):
        q, k, v = (_stacked([each[index] for index in same]) for each in (queries, keys, values))
        causal = not layout.ancestors[same[0]] and (rule.window is None or rule.window >= k.shape[2])
        needed = not causal and (q.shape[2] > 1 or rule.window is not None)
        mask = layout.mask(q.shape[2], k.shape[2], rule.window, q.device) if needed else None
        with _as_it_is(q):
            found = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=rule.dropout, is_causal=causal, scale=rule.scaling
            )
        for index, output in zip(same, found.split(1), strict=True):
            outputs[index] = output
    return torch.cat(outputs, dim=2).to(dtype)


def eager(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Spell the products out, with Gemma 2's capped logits where asked (arXiv:2408.00118, section 2)."""
    scaling = query.shape[-1] ** -0.5 if rule.scaling is None else rule.scaling
    outputs: list[Tensor] = []
    for q, k, v in zip(*_by_segment(query, key, value, layout), strict=True):
        scores = q @ k.transpose(2, 3) * scaling
        if rule.softcap is not None:
            scores = rule.softcap * torch.tanh(scores / rule.softcap)
        mask = layout.mask(q.shape[2], k.shape[2], rule.window, q.device)
        weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1, dtype=_at_least_float32(q.dtype))
        outputs.append(F.dropout(weights.to(v.dtype), rule.dropout) @ v)
    return torch.cat(outputs, dim=2)


def varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Make one call for the batch: queries are segments, keys their ancestors and themselves, both ending alike."""
    index, cu_q, cu_k, max_q, max_k = layout.paths(query.device)
    dtype = query.dtype if query.dtype in (torch.float16, torch.bfloat16) else torch.bfloat16
    q, k, v = (each[0].transpose(0, 1).to(dtype) for each in (query, key, value))
    window = (-1 if rule.window is None else rule.window - 1, 0)
    output = _varlen_call()(q, k[index], v[index], cu_q, cu_k, max_q, max_k, rule, window)
    return output.transpose(0, 1)[None].to(query.dtype)


def flex(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Give FlexAttention the rule of who sees whom; blocks in which nobody sees anybody are skipped."""
    block_mask = layout.block_mask(rule.window, query.device)
    cap = rule.softcap

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap) if cap is not None else score

    call = _flex_attention(query.device.type == "cuda")
    return call(
        query, key, value, score_mod=capped if cap is not None else None, block_mask=block_mask,
        scale=rule.scaling, enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip


KERNELS: dict[KernelName, Kernel] = {"sdpa": sdpa, "eager": eager, "varlen": varlen, "flex": flex}
ASKED: dict[str, KernelName] = {
    "eager": "eager",
    "sdpa": "sdpa",
    "flash_attention_2": "varlen",
    "flash_attention_3": "varlen",
    "flex_attention": "flex",
}
"""`attn_implementation` of a recipe -> the kernel it means here."""


def choose_kernel(
    asked: str | None, device: torch.device, dtype: torch.dtype, config: Any
) -> tuple[KernelName, str | None]:
    """Return the kernel to use, and a sentence where it is not the one that was asked for.

    `dtype` is that of the products. Without a wish CUDA gets varlen where it can, everything else sdpa.
    """
    if asked is None:
        return ("sdpa" if device.type != "cuda" or _misses("varlen", device, dtype, config) else "varlen"), None
    wanted = ASKED[asked]
    missing = _misses(wanted, device, dtype, config)
    if missing is None:
        return wanted, None
    return "sdpa", f"attn_implementation: {asked} cannot be had ({missing}); sdpa computes the same"


def _misses(kernel: KernelName, device: torch.device, dtype: torch.dtype, config: Any) -> str | None:
    """Say what a kernel lacks here; None where it can be used."""
    if kernel in ("sdpa", "eager"):
        return None
    if device.type != "cuda":
        return f"it runs on CUDA, this is {device.type}"
    if kernel == "flex":
        return None if find_spec("triton") else "it needs triton"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it computes in 16 bits, this run in {str(dtype).removeprefix('torch.')}"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs compute capability 8.0"
    package = find_spec("flash_attn") is not None
    text = config.get_text_config()
    if not package and getattr(text, "attn_logit_softcapping", None) is not None:
        return "the model caps its logits, and flash-attn is not installed"
    if not package and getattr(text, "attention_dropout", 0.0):
        return "the model drops attention weights, and flash-attn is not installed"
    return None


def _as_it_is(values: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Keep autocast on the CPU from rounding what was widened."""
    on_cpu = values.device.type == "cpu"
    return torch.autocast("cpu", enabled=False) if on_cpu else contextlib.nullcontext()


def _by_segment(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Cut into segments; keys and values stand after those of the ancestors, and are repeated for grouped heads."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    queries = list(query.split(layout.lengths, dim=2))
    paths: list[list[Tensor]] = []
    for each in (key, value):
        parts = each.split(layout.lengths, dim=2)
        paths.append(
            [
                torch.cat([*(parts[step] for step in ancestors), parts[index]], dim=2) if ancestors else parts[index]
                for index, ancestors in enumerate(layout.ancestors)
            ]
        )
    return queries, paths[0], paths[1]


def _same_shapes(layout: Layout) -> list[list[int]]:
    """Group segments that are as long, and continue as much, as one another."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (length, depth) in enumerate(zip(layout.lengths, layout.depths, strict=True)):
        groups[length, depth].append(index)
    return list(groups.values())


def _stacked(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


@cache
def _varlen_call() -> Callable[..., Tensor]:
    """Take the flash-attn package where it is installed, which also caps and drops, else torch's own kernel."""
    if find_spec("flash_attn"):
        from flash_attn import flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

        def from_package(q: Tensor, k: Tensor, v: Tensor, *lengths: Any) -> Tensor:
            *cumulative, rule, window = lengths
            return flash_attn_varlen_func(
                q, k, v, *cumulative, dropout_p=rule.dropout, softmax_scale=rule.scaling, causal=True,
                window_size=window, softcap=rule.softcap or 0.0,
            )  # fmt: skip

        return from_package
    from torch.nn.attention.varlen import varlen_attn

    def from_torch(q: Tensor, k: Tensor, v: Tensor, *lengths: Any) -> Tensor:
        *cumulative, rule, window = lengths
        grouped = q.shape[1] != k.shape[1]
        output = varlen_attn(q, k, v, *cumulative, scale=rule.scaling, window_size=window, enable_gqa=grouped)
        return cast(Tensor, output)

    return from_torch


@cache
def _flex_attention(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention
