"""Two LoRA adapters on one model, the lower frozen, the upper trained; saved as a single one of their joint rank.

    W + s1 B1 A1 + s2 B2 A2  =  W + s2 [ (s1/s2) B1 , B2 ] [ A1 ]
                                                           [ A2 ]

B2 and A2 keep their values bit for bit in the joint matrices, so a checkpoint gives the trained adapter back exactly.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poise.errors import ModelError

TRAINED = "default"
"""peft's name of the adapter that is trained, the one whose files have no folder of their own."""
BENEATH = "beneath"
"""Name of the frozen adapter under it."""
PREFIX = "base_model.model."


def stack(model: Any, config: Any) -> Any:
    """Put a new adapter over the frozen one called BENEATH, in place; both are active.

    Raises ModelError where the two could not be saved as one adapter.
    """
    refuse_inexact(model.peft_config[BENEATH], "the adapter beneath")
    refuse_inexact(config, "the new adapter")
    model.add_adapter(TRAINED, config)
    model.base_model.set_adapter([BENEATH, TRAINED])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{TRAINED}." in name)
    set_dropout(model, BENEATH, 0.0)
    return model


def refuse_inexact(config: Any, whose: str) -> None:
    """Refuse what does not add up along the rank."""
    reasons = {
        "use_dora": "its directions are normalised together with the weights beneath",
        "modules_to_save": "it replaces whole modules",
        "trainable_token_indices": "it replaces rows of embeddings",
        "target_parameters": "its factors belong to experts one by one",
        "lora_bias": "it has biases",
        "layer_replication": "it repeats layers",
    }
    found = next((key for key in reasons if getattr(config, key, None)), None)
    if found is None and getattr(config, "bias", "none") != "none":
        found, reasons = "bias", {"bias": "it trains biases of the model"}
    if found is not None:
        raise ModelError(
            f"adapter_continuation: stack does not fit, {whose} has {found}\n"
            f"    why:    {reasons[found]}, so two adapters cannot be saved as one exactly\n"
            "    to do:  adapter_continuation=merge"
        )


def set_dropout(model: Any, adapter: str, probability: float) -> None:
    """Change the dropout before an adapter."""
    for module in model.modules():
        dropouts = getattr(module, "lora_dropout", None)
        if isinstance(dropouts, torch.nn.ModuleDict) and adapter in dropouts:
            dropouts[adapter] = torch.nn.Dropout(probability) if probability else torch.nn.Identity()
    model.peft_config[adapter].lora_dropout = probability


def save_as_one(model: Any, folder: Path) -> None:
    """Write both adapters as one, which peft loads onto the same base."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    lower, upper = (
        _factors(get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False))
        for name in (BENEATH, TRAINED)
    )
    ranks = _rank(lower), _rank(upper)
    scales = {name: _scale(model, name) for name in (BENEATH, TRAINED)}
    weights: dict[str, Tensor] = {}
    for module in sorted(lower.keys() | upper.keys()):
        ratio = scales[BENEATH].get(module, 0.0) / max(scales[TRAINED].values())
        below, above = lower.get(module), upper.get(module)
        down, up = _joined(below, above, ranks, ratio)
        weights |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    _joint_config(model, sum(ranks), max(scales[TRAINED].values()), lower.keys() | upper.keys()).save_pretrained(folder)


def load_upper(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Give the trained adapter back its part of what `save_as_one` wrote."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    now = get_peft_model_state_dict(model, adapter_name=TRAINED, save_embedding_layers=False)
    rank = _rank(_factors(now))
    own = {key: (weights[key][-rank:] if ".lora_A." in key else weights[key][:, -rank:]).contiguous() for key in now}
    set_peft_model_state_dict(model, own, adapter_name=TRAINED)


def _factors(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return module -> (A (rank, in), B (out, rank)), on the CPU."""
    modules = {key.partition(".lora_")[0] for key in weights}
    return {
        module: (weights[f"{module}.lora_A.weight"].cpu(), weights[f"{module}.lora_B.weight"].cpu())
        for module in modules
    }


def _rank(factors: Mapping[str, tuple[Tensor, Tensor]]) -> int:
    return max(len(down) for down, _ in factors.values())


def _scale(model: Any, adapter: str) -> dict[str, float]:
    """Return module -> the number its product is multiplied with."""
    from peft.tuners.lora import LoraLayer

    return {
        f"{PREFIX}{name}": module.scaling[adapter]
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, LoraLayer) and adapter in module.scaling
    }


def _joined(
    below: tuple[Tensor, Tensor] | None, above: tuple[Tensor, Tensor] | None, ranks: tuple[int, int], ratio: float
) -> tuple[Tensor, Tensor]:
    """Concatenate along the rank; zeros stand where a module has one of the two alone, or a smaller rank."""
    some = below or above
    assert some is not None
    down, up = some[0].new_zeros(sum(ranks), some[0].shape[1]), some[1].new_zeros(some[1].shape[0], sum(ranks))
    if below is not None:
        rank = len(below[0])
        down[:rank], up[:, :rank] = below[0], below[1] * ratio
    if above is not None:
        down[ranks[0] :], up[:, ranks[0] :] = above
    return down, up


def _joint_config(model: Any, rank: int, scale: float, modules: Any) -> Any:
    below, config = model.peft_config[BENEATH], copy.deepcopy(model.peft_config[TRAINED])
    alpha = scale * rank
    config.r, config.lora_alpha = rank, int(alpha) if alpha == int(alpha) else alpha
    config.use_rslora, config.inference_mode = False, True
    config.target_modules = {module.removeprefix(PREFIX) for module in modules}
    config.base_model_name_or_path, config.revision = below.base_model_name_or_path, below.revision
    return config
