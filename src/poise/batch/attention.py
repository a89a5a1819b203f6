"""Attention over segments, entered through transformers' AttentionInterface so that no model is patched.

Each segment's queries attend to its ancestors' keys and causally to its own; batch/kernels.py has the ways to compute
that.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn

from poise.batch.batch import Layout
from poise.batch.kernels import KERNELS, KernelName, Rule
from poise.errors import ModelError

NAME = "poise_segments"


def register() -> None:
    """Make `poise_segments` known to transformers. No mask is registered: for such a name the model builds none."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, segment_attention)


def segment_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    segments: Layout | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend within segments.

    query (1, heads, tokens, dim), key and value (1, kv heads, tokens, dim) -> (1, tokens, heads, dim), None.
    """
    if segments is None:
        raise ModelError("the model does not hand extra keywords to its attention; prefix sharing cannot work with it")
    _refuse_unhonoured(module, attention_mask, others)
    segments.attended += 1
    rule = Rule(scaling, dropout, softcap, others.get("sliding_window"))
    output = KERNELS[cast(KernelName, segments.kernel)](query, key, value, segments, rule)
    return output.transpose(1, 2).contiguous(), None


def _refuse_unhonoured(module: nn.Module, attention_mask: Tensor | None, others: dict[str, Any]) -> None:
    """Raise ModelError for what would change the result and is not computed here.

    A window that the model keeps in the mask it would build (Llama 4, Qwen2-MoE) never arrives as a keyword.
    """
    unhonoured = {"s_aux": "s_aux, its sinks", "position_bias": "a position bias"}
    refused = [shown for name, shown in unhonoured.items() if others.get(name) is not None]
    refused += ["a mask of its own"] if attention_mask is not None else []
    config = getattr(module, "config", None)
    windows = ("attention_chunk_size",) if "sliding_window" in others else ("attention_chunk_size", "sliding_window")
    refused += [name for name in windows if getattr(config, name, None)]  # 0 is none: Qwen2-MoE
    if refused:
        raise ModelError(f"this model's attention uses {', '.join(refused)}, which {NAME} does not honour")


@contextmanager
def use_attention(model: Any, implementation: str) -> Generator[None]:
    """Let a transformers model use another attention for a while, for generation or a check."""
    before = model.config._attn_implementation
    if implementation != before:
        model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        if implementation != before:
            model.set_attn_implementation(before)
