"""A tiny untrained model of every family that a GGUF is written of, and tokenizers of both kinds."""

from pathlib import Path
from typing import Any

import torch

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3, "head_dim": 16,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
GEMMA = {"query_pre_attn_scalar": 16, "sliding_window": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "tie_word_embeddings": True},
    "llama with scaled positions": {"rope_parameters": LLAMA3},
    "llama with linear positions": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    "mistral": {"sliding_window": 128},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "gemma": {"num_key_value_heads": 1},
    "gemma2": GEMMA,
    "gemma3_text": {**GEMMA, "num_hidden_layers": 6},
}
PIECES = ("ap", "pl", "appl", "apple", "▁a", "▁appl", "▁apple", "▁p")
"""The best first, so that `▁ap` is ▁ and ap, although ▁a is a piece."""


def make(name: str, vocabulary: int, **changes: Any) -> Any:
    """Return a model of the family, in float32, with weights wide enough that its answers differ."""
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = name.split(" ")[0]
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **(SIZES | {"vocab_size": vocabulary} | CONFIGS[name] | changes))
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms and biases that do something
                parameter.add_(0.3 * torch.randn_like(parameter), alpha=1.0)
            assert parameter.isfinite().all(), parameter_name
    return model


def sentencepiece_like(folder: Path, *, adds_space: bool, without: tuple[str, str] | None = None) -> Any:
    """Return a tokenizer as Llama 2's (a space before every text) or Gemma's (none), perhaps with a merge left out."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", "<end>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁aplent\n"]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, *PIECES]))}
    halves = [(piece[:cut], piece[cut:]) for piece in PIECES for cut in range(1, len(piece))]
    merges = [pair for pair in halves if all(half in vocabulary for half in pair) and pair != without]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("▁")] if adds_space else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if adds_space else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>",
        additional_special_tokens=["<end>"],
    )  # fmt: skip
    made.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}\n{{ m.content }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant\n{% endif %}"
    )
    made.save_pretrained(folder)
    return made
