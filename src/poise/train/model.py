"""Load and save the model: device and dtype chosen and said, an adapter on its base, stop tokens carried along."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from poise import progress
from poise.batch.attention import use_attention
from poise.batch.score import usual_attention, without_adapter
from poise.batch.tokens import PreparedTokenizer
from poise.errors import ModelError
from poise.models.open import load_errors, open_causal_lm, open_tokenizer
from poise.recipe_sections import ModelSection
from poise.train.adapters import adapter_config, check_base, put_on, save_adapter, stored_sha256
from poise.train.quantize import (
    import_bitsandbytes,
    is_quantized,
    prepare_quantized,
    quantization_config,
    quantized_sha256,
)
from poise.train.reference import weights_sha256
from poise.train.reopened import check_saved
from poise.train.stacked import TRAINED


def quiet_libraries() -> None:
    """Silence the libraries' own bars, and what peft and torchao say of themselves that no user can act on."""
    import warnings

    import transformers
    from datasets import disable_progress_bars

    transformers.utils.logging.disable_progress_bar()
    disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    progress.hush()
    import_bitsandbytes()


@dataclass(frozen=True)
class Hardware:
    """What the run computes with."""

    device: torch.device
    dtype: torch.dtype
    """Of the weights."""
    autocast: bool
    """Whether matrix products run in bfloat16 over weights of another type."""
    rounds_products: bool = False
    """Whether products with quantized weights are rounded to 16 bits, whatever the rest is computed in."""

    @property
    def products(self) -> torch.dtype:
        """What matrix products are computed in."""
        return torch.bfloat16 if self.autocast else self.dtype

    def computing(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context every forward pass outside the Trainer runs in."""
        if self.autocast:
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def __str__(self) -> str:
        """Say it in one phrase."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else self.device.type
        weights = str(self.dtype).removeprefix("torch.")
        return f"{name}, {weights} weights" + (", bfloat16 autocast" if self.autocast else "")


def choose_hardware(section: ModelSection, *, bf16: bool | None, use_cpu: bool = False) -> Hardware:
    """Take CUDA, else MPS, else the CPU; autocast to bfloat16 where asked, and by default on CUDA that has it.

    `torch_dtype: null` means float32 weights, which AdamW needs to move a little at a time; name a type to override.
    """
    kind = "cpu"
    if not use_cpu and torch.cuda.is_available():
        kind = "cuda"
    elif not use_cpu and torch.backends.mps.is_available():
        kind = "mps"
    asked = section.torch_dtype
    dtype = torch.float32 if asked in (None, "auto") else getattr(torch, str(asked))
    can = kind == "cpu" or (kind == "cuda" and torch.cuda.is_bf16_supported())
    if bf16 and not can:
        raise ModelError(f"bf16: true, but {kind} here has no bfloat16; set bf16=false, or torch_dtype=float16")
    autocast = bool(bf16) if bf16 is not None else kind == "cuda" and can
    rounds = section.load_in_4bit and section.bnb_4bit_compute_dtype in ("bfloat16", "float16")
    return Hardware(torch.device(kind), dtype, autocast and dtype != torch.bfloat16, rounds)


@dataclass(frozen=True)
class LoadedModel:
    """A model from disk, perhaps with an adapter on it."""

    model: Any
    sha256: str
    """Hash of all its weights."""
    base_sha256: str
    """Hash of those under an adapter as stored on disk, which a saved adapter names; empty where all are trained."""


def load_model(
    section: ModelSection, hardware: Hardware, *, name: str | None = None, adapter_name: str = TRAINED
) -> LoadedModel:
    """Load a causal language model, or a LoRA adapter on the base it names; weights from safetensors alone.

    `adapter_name` is what the adapter is called inside the model; only the default one is trained.
    """
    name = name or section.model_name_or_path
    with load_errors(name):
        adapter = adapter_config(name, section.model_revision)
    base_name, revision = name, section.model_revision
    if adapter is not None:
        base_name, revision = adapter["base_model_name_or_path"], adapter.get("revision") or "main"
    model = _load_base(base_name, revision, section, hardware)
    base_sha256 = stored_sha256(base_name, revision) if adapter is not None or section.use_peft else ""
    if adapter is not None:
        check_base(name, base_name, base_sha256)
        trainable = adapter_name == TRAINED
        model = put_on(model, name, section.model_revision, adapter_name=adapter_name, trainable=trainable)
    sha256 = weights_sha256(model)
    if is_quantized(section):
        sha256 = quantized_sha256(sha256, section, hardware)
    return LoadedModel(model, sha256, base_sha256)


def load_tokenizer(section: ModelSection) -> Any:
    """Load the tokenizer that belongs to the model."""
    name = section.tokenizer_name_or_path or section.model_name_or_path
    with load_errors(name):
        return open_tokenizer(name, section.model_revision)


def grow_vocabulary(model: Any, prepared: PreparedTokenizer) -> list[int]:
    """Give every token of the tokenizer an embedding; returns the new ones, whose values are random."""
    rows = model.get_input_embeddings().weight.shape[0]
    new_rows = list(range(rows, len(prepared.tokenizer)))
    if new_rows:
        model.resize_token_embeddings(len(prepared.tokenizer))
    return new_rows


def set_stop_tokens(base: Any, prepared: PreparedTokenizer) -> None:
    """Make default generation stop, pad and begin with the tokenizer's tokens."""
    stops = list(prepared.stop_ids)
    base.generation_config.eos_token_id = stops if len(stops) > 1 else stops[0]
    base.generation_config.pad_token_id = prepared.pad_id
    base.generation_config.bos_token_id = prepared.tokenizer.bos_token_id
    base.config.eos_token_id = stops[0]
    base.config.pad_token_id = prepared.pad_id


def disable_dropout(model: Any) -> None:
    """Turn every dropout off, LoRA's too: a preference margin is the difference of two passes that must agree."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name in ("attention_dropout", "attn_pdrop", "attn_dropout"):
        for module in model.modules():
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def save_model(
    model: Any, prepared: PreparedTokenizer, folder: Path, base_sha256: str, weights: dict[str, Any] | None = None
) -> None:
    """Write weights, tokenizer with template, and the stop tokens, so that default generation stops by itself.

    `weights` are the model's where they were gathered from several processes. What is written is opened again.
    """
    from peft import PeftModel

    causal_lm = without_adapter(model)
    with use_attention(causal_lm, usual_attention(causal_lm)):
        if isinstance(model, PeftModel):
            save_adapter(model, folder, base_sha256, weights)
        else:
            model.save_pretrained(str(folder), state_dict=weights)
    prepared.tokenizer.save_pretrained(folder)
    causal_lm.generation_config.save_pretrained(folder)
    check_saved(model, folder)


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return (all, trainable)."""
    counts = [(_weights(parameter), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, _ in counts), sum(count for count, trained in counts if trained)


def _weights(parameter: Any) -> int:
    """Count a parameter's weights, of which 4-bit ones pack several into an element."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(state.shape.numel())


def _load_base(name: str, revision: str, section: ModelSection, hardware: Hardware) -> Any:
    options: dict[str, Any] = {"dtype": "auto" if section.torch_dtype == "auto" else hardware.dtype}
    if is_quantized(section):
        options |= {"quantization_config": quantization_config(section, hardware), "device_map": {"": hardware.device}}
    with load_errors(name):
        model = open_causal_lm(name, revision, **options)
    return prepare_quantized(model, hardware) if is_quantized(section) else model.to(hardware.device)
