"""Frozen weights in 4 or 8 bits under an adapter, with bitsandbytes: QLoRA (Dettmers et al. 2023, arXiv:2305.14314).

On CUDA bitsandbytes has kernels of its own. On the CPU weights are dequantised and multiplied in float, which is the
same function as LoRA over the dequantised weights, forward and backward.
"""

import hashlib
import logging
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from poise.errors import ModelError
from poise.recipe_sections import ModelSection

if TYPE_CHECKING:
    from poise.train.model import Hardware

BLOCK = 64
"""Weights that share a scale."""


def is_quantized(section: ModelSection) -> bool:
    """Whether the recipe quantizes the frozen weights."""
    return section.load_in_4bit or section.load_in_8bit


def import_bitsandbytes() -> None:
    """Import it without the kernel it would fetch from the Hub on the way, where the package `kernels` is installed."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # it warns that it could not fetch
    if find_spec("bitsandbytes") is None or "bitsandbytes" in sys.modules or find_spec("kernels") is None:
        return
    loaded = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # pyright: ignore[reportArgumentType] - Python's own way to make an import fail
    try:
        import bitsandbytes  # noqa: F401  # pyright: ignore[reportUnusedImport]
    finally:
        del sys.modules["kernels"]
        if loaded is not None:
            sys.modules["kernels"] = loaded


def compute_dtype(section: ModelSection, hardware: "Hardware") -> torch.dtype:
    """Return the type of products with 4-bit weights: the recipe's, else the one the rest of the model computes in."""
    if section.bnb_4bit_compute_dtype is not None:
        return getattr(torch, section.bnb_4bit_compute_dtype)
    return torch.bfloat16 if hardware.autocast else hardware.dtype


def quantization_config(section: ModelSection, hardware: "Hardware") -> Any:
    """Return transformers' BitsAndBytesConfig; ModelError where device, package or recipe do not allow it."""
    _refuse_unusable(section, hardware)
    import_bitsandbytes()
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=section.load_in_4bit,
        load_in_8bit=section.load_in_8bit,
        bnb_4bit_quant_type=section.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=section.use_bnb_nested_quant,
        bnb_4bit_compute_dtype=compute_dtype(section, hardware),
        bnb_4bit_quant_storage=section.bnb_4bit_quant_storage,
    )


def prepare_quantized(model: Any, hardware: "Hardware") -> Any:
    """Freeze a quantized model and keep what is not quantized (norms, embeddings, head) in float32."""
    from peft import prepare_model_for_kbit_training

    if hardware.device.type == "cpu":
        _refuse_odd_shapes(model)
        _keep_one_computation(model)
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def quantized_sha256(weights_sha256: str, section: ModelSection, hardware: "Hardware") -> str:
    """Join the hash of quantized weights with what they are multiplied in, on which log-probabilities depend too."""
    facts = (weights_sha256, str(compute_dtype(section, hardware)), hardware.device.type)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def quantized_linears(model: Any) -> dict[str, torch.nn.Module]:
    """Return the quantized layers of a model by their names."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    return {name: module for name, module in model.named_modules() if isinstance(module, Linear4bit | Linear8bitLt)}


def dequantise(model: Any) -> Any:
    """Put in the place of quantized layers what they stand for, in float32; the model is a plain one from then on."""
    from peft.utils.integrations import dequantize_bnb_weight

    for name, module in quantized_linears(model).items():
        layer: Any = module
        weight = dequantize_bnb_weight(layer.weight, getattr(layer, "state", None)).float()
        plain: Any = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        plain.weight = torch.nn.Parameter(weight, requires_grad=False)
        plain.bias = None if layer.bias is None else torch.nn.Parameter(layer.bias.float(), requires_grad=False)
        model.set_submodule(name, plain)
    for name in ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        setattr(model, name, False)
    for name in ("quantization_method", "hf_quantizer"):
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _refuse_unusable(section: ModelSection, hardware: "Hardware") -> None:
    key = "load_in_4bit" if section.load_in_4bit else "load_in_8bit"
    kind = hardware.device.type
    if kind not in ("cuda", "cpu"):
        raise ModelError(
            f"{key} needs CUDA or the CPU, this run has {kind}\n"
            "    why:    bitsandbytes' kernels there are not tested with training\n"
            f"    to do:  {key}=false for LoRA over whole weights, or use_cpu=true"
        )
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"{key} needs bitsandbytes, which is not installed\n"
            f"    to do:  pip install 'poise[quantize]', or {key}=false"
        )
    if section.load_in_8bit and section.use_dora and kind == "cpu":
        raise ModelError(
            "use_dora with load_in_8bit does not work on the CPU\n"
            "    why:    peft reads the weights for DoRA's norms and loses the scales of 8-bit layers on the way\n"
            "    to do:  load_in_4bit=true instead, or use_dora=false"
        )


def _refuse_odd_shapes(model: Any) -> None:
    """Refuse rows that do not end with a block: bitsandbytes 0.50 dequantises 48 or 96 columns wrongly on the CPU.

    Its AVX-512 code takes one scale for several blocks there; the error is larger than the quantization's own.
    """
    from bitsandbytes.nn.modules import Linear4bit

    linears = quantized_linears(model).items()
    odd = {name: module for name, module in linears if isinstance(module, Linear4bit) and module.in_features % BLOCK}
    if odd:
        name, module = next(iter(odd.items()))
        raise ModelError(
            f"load_in_4bit does not fit this model on the CPU: {name} has {module.in_features} input features "
            f"({len(odd)} such layers)\n"
            f"    why:    a scale is shared by {BLOCK} weights, and bitsandbytes' CPU kernel is wrong where rows are "
            "no multiple of that\n"
            "    to do:  load_in_4bit=false"
        )


def _keep_one_computation(model: Any) -> None:
    """Make evaluation compute as training does: layers stay in training mode, which means nothing else to them.

    In evaluation on the CPU bitsandbytes repacks 4-bit weights for inference, in bfloat16 and without a way back: from
    then on the gradient through them is 0. And 8-bit layers round their inputs, so a reference would be another model.
    """
    for module in quantized_linears(model).values():
        module.register_forward_pre_hook(_in_training_mode)


def _in_training_mode(module: torch.nn.Module, inputs: Any) -> None:
    module.training = True
