"""Fewer bits in transformers' own folders: torchao's int8 and int4, bitsandbytes' nf4, GPTQ.

int8   8 bits and a scale for each row (torchao); embeddings and head stay whole, as in all of these
int4   16 levels and a scale for every 32 weights (torchao, which keeps a byte for each of them)
nf4    16 levels of a normal distribution, a scale for every 64 weights, itself in 8 bits (bitsandbytes;
       Dettmers et al. 2023, arXiv:2305.14314)
gptq   16 levels, chosen so that layers compute the same on rows the run trained on (gptqmodel, CUDA; Frantar et
       al. 2022, arXiv:2210.17323)
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from poise.errors import ModelError
from poise.models.open import open_causal_lm
from poise.publish.material import Text

GROUPS = {"int8": 1, "int4": 32, "nf4": 64}
"""Weights that share a scale, or 1 where a row does."""
GPTQ_GROUPS = (128, 64, 32)
"""The largest that divides every row is taken: what reads the folder allows no exceptions."""
CALIBRATION_ROWS = 256
KINDS = ("int8", "int4", "nf4", "gptq")
PACKAGES = {"int8": ["torchao"], "int4": ["torchao"], "nf4": ["bitsandbytes"], "gptq": ["gptqmodel", "optimum"]}


def refuse_unmakeable(kind: str, device: str) -> None:
    """Raise what stands in the way, before a model is loaded."""
    if kind == "gptq" and device != "cuda":
        raise ModelError(
            f"gptq needs CUDA, and here is none ({device})\n"
            "    to do:  --to nf4, int4 or gguf-q4_0, or a machine with a GPU"
        )
    if device == "mps":
        raise ModelError(f"{kind} is not made on {device}\n    to do:  --to gguf-q8_0 or gguf-q4_0")
    missing = [package for package in PACKAGES[kind] if find_spec(package) is None]
    if missing:
        extra = "gptq" if kind == "gptq" else "quantize"
        raise ModelError(
            f"{kind} needs {' and '.join(missing)}, not installed here\n    to do:  pip install 'poise[{extra}]'"
        )


def write_quantized(
    model: Path, out: Path, kind: str, device: torch.device, group: int, odd: Sequence[str],
    calibration: Sequence[Text],
) -> None:  # fmt: skip
    """Quantize a model folder into `out`; `odd` are layers whose rows the group does not divide, which stay whole."""
    if kind == "gptq":
        _write_gptq(model, out, group, calibration)
        return
    quantized = open_causal_lm(
        str(model), quantization_config=CONFIGS[kind](list(odd)), dtype="auto", device_map={"": device}
    )
    quantized.save_pretrained(str(out))


def group_of(model: Any, kind: str) -> int:
    """Return how many weights share a scale; ModelError where GPTQ has no group for the rows of this model."""
    if kind != "gptq":
        return GROUPS[kind]
    group = next((group for group in GPTQ_GROUPS if not odd_layers(model, group)), None)
    if group is None:
        raise ModelError(
            f"gptq needs rows that {GPTQ_GROUPS[-1]} divides, and {odd_layers(model, GPTQ_GROUPS[-1])[0]} has others\n"
            "    to do:  --to int8, nf4 or gguf-q4_0"
        )
    return group


def odd_layers(model: Any, group: int) -> list[str]:
    """Name the linear layers whose rows a group does not divide; the head is never quantized."""
    head = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and module.in_features % group
    ]


def refuse_uncalibrated(kind: str, calibration: Sequence[Text]) -> None:
    """Refuse a quantization that must look at rows where there are none."""
    if kind == "gptq" and not calibration:
        raise ModelError(
            "gptq is calibrated on rows that the run trained on, and none can be read\n"
            "    to do:  name the run with --run, and keep its data where the recipe says"
        )


def _int8(odd: list[str]) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig(set_inductor_config=False), modules_to_not_convert=["lm_head", *odd])


def _int4(odd: list[str]) -> Any:
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup
    from transformers import TorchAoConfig

    four_bits = torch.int4  # pyright: ignore[reportAttributeAccessIssue] - torch declares it elsewhere
    levels = IntxWeightOnlyConfig(weight_dtype=four_bits, granularity=PerGroup(GROUPS["int4"]))
    return TorchAoConfig(levels, modules_to_not_convert=["lm_head", *odd])


def _nf4(odd: list[str]) -> Any:
    from transformers import BitsAndBytesConfig

    from poise.train.quantize import import_bitsandbytes

    import_bitsandbytes()
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16, llm_int8_skip_modules=["lm_head", *odd],
    )  # fmt: skip


CONFIGS: dict[str, Callable[[list[str]], Any]] = {"int8": _int8, "int4": _int4, "nf4": _nf4}


def _write_gptq(model: Path, out: Path, group: int, calibration: Sequence[Text]) -> None:
    from gptqmodel import GPTQModel, QuantizeConfig  # pyright: ignore[reportMissingImports]

    quantizer: Any = GPTQModel.load(str(model), QuantizeConfig(bits=4, group_size=group))
    quantizer.quantize([{"input_ids": text.ids, "attention_mask": [1] * len(text.ids)} for text in calibration])
    quantizer.save(str(out))
