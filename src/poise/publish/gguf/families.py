"""What llama.cpp calls a model's settings and tensors, for Llama, Mistral, Qwen2, Qwen3 and Gemma 1 to 3.

llama.cpp computes rotary positions over neighbouring dimensions in Llama and Mistral, where transformers pairs the
first half of a head with the second; the rows of their queries and keys are put in its order. Gemma's norms multiply
by one more than their weight, which the file holds with the one added. Any other model is for llama.cpp's own
converter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi
from typing import Any

import torch
from torch import Tensor

from poise.errors import ModelError

CONVERTER = "convert it with llama.cpp's convert_hf_to_gguf.py"


@dataclass(frozen=True)
class Family:
    """Models of one architecture."""

    arch: str
    """llama.cpp's name for it."""
    activations: tuple[str, ...]
    """Of the feed-forward layer, as configurations name it; llama.cpp has no choice there."""
    pairs_neighbours: bool = False
    adds_one_to_norms: bool = False
    window_every: int = 0
    """All but each such layer attend within a sliding window; 0 where none does."""
    layers_of_27b: int = 0
    """Layers by which llama.cpp knows the model whose queries are scaled by width and heads, not by head."""


SILU, GELU = ("silu", "swish"), ("gelu_pytorch_tanh", "gelu")
FAMILIES = {
    "llama": Family("llama", SILU, pairs_neighbours=True),
    "mistral": Family("llama", SILU, pairs_neighbours=True),
    "qwen2": Family("qwen2", SILU),
    "qwen3": Family("qwen3", SILU),
    "gemma": Family("gemma", GELU, adds_one_to_norms=True),
    "gemma2": Family("gemma2", GELU[:1], adds_one_to_norms=True, window_every=2, layers_of_27b=46),
    "gemma3_text": Family("gemma3", GELU[:1], adds_one_to_norms=True, window_every=6, layers_of_27b=62),
}
"""By transformers' `model_type`."""


def family_of(config: Any) -> Family:
    """Find the family of a model; ModelError where llama.cpp would compute another function than transformers does."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(
            f"poise writes no GGUF of a {config.model_type} model (it does of {', '.join(FAMILIES)})\n"
            f"    to do:  {CONVERTER}"
        )
    for problem in _differences(family, config):
        raise ModelError(
            f"{problem}\n    why:    this GGUF would compute another function\n"
            f"    to do:  {CONVERTER}, and see whether it can"
        )
    return family


def settings(family: Family, config: Any) -> Iterator[tuple[str, Any]]:
    """Yield (method of GGUFWriter without `add_`, value) for everything that llama.cpp must know."""
    head = head_size(config)
    yield "context_length", _context(family, config)
    yield "embedding_length", config.hidden_size
    yield "block_count", config.num_hidden_layers
    yield "feed_forward_length", config.intermediate_size
    yield "head_count", config.num_attention_heads
    yield "head_count_kv", config.num_key_value_heads
    yield "key_length", head
    yield "value_length", head
    yield "layer_norm_rms_eps", config.rms_norm_eps
    yield "vocab_size", config.vocab_size
    yield "rope_dimension_count", head
    everywhere = rotation(config)
    yield "rope_freq_base", everywhere["rope_theta"]
    if everywhere["rope_type"] == "linear":
        yield "rope_scaling_type", "linear"
        yield "rope_scaling_factor", everywhere["factor"]
    if family.window_every:
        yield "sliding_window", config.sliding_window
    if family.arch == "gemma3":
        yield "rope_freq_base_swa", rotation(config, "sliding_attention")["rope_theta"]
    for kind in ("attn_logit", "final_logit"):
        if family.window_every and getattr(config, f"{kind}_softcapping", None):
            yield f"{kind}_softcapping", getattr(config, f"{kind}_softcapping")


def head_size(config: Any) -> int:
    """Return the width of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def rotation(config: Any, layers: str = "full_attention") -> dict[str, Any]:
    """Return how positions are rotated in those layers."""
    found = config.rope_parameters
    return found.get(layers, found)


def rotation_factors(config: Any) -> Tensor | None:
    """Return what Llama 3.1 divides each frequency by, (head / 2,); None for models that do not.

    Between the two wavelengths the frequency itself moves linearly from the whole to the divided one (Llama 3.1's
    `apply_scaling`); what llama.cpp wants is the ratio.
    """
    found = rotation(config)
    if found["rope_type"] != "llama3":
        return None
    head, length, factor = head_size(config), found["original_max_position_embeddings"], found["factor"]
    frequencies = found["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float64) / head)
    turns = length * frequencies / (2 * pi)
    low, high = found["low_freq_factor"], found["high_freq_factor"]
    whole = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 / (whole + (1 - whole) / factor)).float()


def arranged(family: Family, config: Any, name: str, weight: Tensor) -> Tensor:
    """Return a weight of transformers' name as llama.cpp wants it, of the same shape."""
    if family.adds_one_to_norms and name.endswith("norm.weight"):
        return weight.float() + 1
    if family.pairs_neighbours and ".q_proj." in name:
        return _neighbours(weight, config.num_attention_heads)
    if family.pairs_neighbours and ".k_proj." in name:
        return _neighbours(weight, config.num_key_value_heads)
    return weight


def restored(family: Family, config: Any, name: str, weight: Tensor) -> Tensor:
    """Undo `arranged`."""
    if family.adds_one_to_norms and name.endswith("norm.weight"):
        return weight - 1
    if family.pairs_neighbours and (".q_proj." in name or ".k_proj." in name):
        return weight.unflatten(0, (-1, head_size(config) // 2, 2)).transpose(1, 2).flatten(0, 2)
    return weight


def _neighbours(weight: Tensor, heads: int) -> Tensor:
    """Put row i of a head's second half after row i of its first."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _context(family: Family, config: Any) -> int:
    """Return the tokens it can see; where llama.cpp leaves a sliding window out, no more than the window."""
    window = None if family.window_every else getattr(config, "sliding_window", None)
    return min(config.max_position_embeddings, window or config.max_position_embeddings)


def _differences(family: Family, config: Any) -> Iterator[str]:
    """Say what llama.cpp would compute otherwise."""
    activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", "")
    if activation not in family.activations:
        yield f"its feed-forward layers use {activation}, and llama.cpp's {family.arch} uses {family.activations[0]}"
    kind = rotation(config)["rope_type"]
    if kind not in ("default", "linear", "llama3") or (kind == "llama3" and not family.pairs_neighbours):
        yield f"its positions are scaled by {kind}"
    if config.model_type == "qwen2" and getattr(config, "use_sliding_window", False):
        yield "it attends within a sliding window, which llama.cpp's qwen2 does not"
    if family.window_every:
        yield from _gemma_differences(family, config)


def _gemma_differences(family: Family, config: Any) -> Iterator[str]:
    layers = config.num_hidden_layers
    wanted = config.hidden_size // config.num_attention_heads if layers == family.layers_of_27b else head_size(config)
    if config.query_pre_attn_scalar != wanted:
        yield f"its queries are scaled by {config.query_pre_attn_scalar}, and llama.cpp scales them by {wanted}"
    every = family.window_every
    pattern = ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)]
    if list(config.layer_types) != pattern:
        yield f"not each {every}th layer alone attends to everything"
