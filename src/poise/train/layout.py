"""How a launcher lays weights out over processes, and what cannot be trained so: refused before anything is loaded.

ddp         every process has all weights                 gradients are exchanged
fsdp        each has a part of weights, gradients and optimizer state (FSDP2)
deepspeed   ZeRO 1 to 3: optimizer state, then gradients, then weights too are divided
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from poise.errors import RecipeError
from poise.recipe import Recipe

KINDS = {"MULTI_GPU": "ddp", "FSDP": "fsdp", "DEEPSPEED": "deepspeed"}
"""accelerate's distributed_type -> what it is called here."""


@dataclass(frozen=True)
class Layout:
    """What an accelerate configuration says of processes and weights."""

    kind: Literal["one", "ddp", "fsdp", "deepspeed"]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of fsdp_config or deepspeed_config, without the prefix `fsdp_`."""
    mixed_precision: str = "no"
    parallelism: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def stage(self) -> int:
        """What ZeRO divides: 1 the optimizer's state, 2 gradients too, 3 weights too; 0 where it is not ZeRO."""
        if self.kind != "deepspeed":
            return 0
        file = self.options.get("deepspeed_config_file")
        if file:
            held = json.loads(Path(str(file)).read_text(encoding="utf-8"))
            return int(held.get("zero_optimization", {}).get("stage", 0))
        return int(self.options.get("zero_stage", 2))

    @property
    def divides_weights(self) -> bool:
        """Whether no process has all weights while it trains."""
        return self.kind == "fsdp" or self.stage == 3

    @property
    def name(self) -> str:
        """Say it in a word."""
        if self.kind == "fsdp":
            return f"FSDP{self.options.get('version', 1)}"
        return f"ZeRO-{self.stage}" if self.kind == "deepspeed" else self.kind.upper()


def layout_of(configuration: Mapping[str, Any]) -> Layout:
    """Read accelerate's configuration; the kind must be one of `KINDS`."""
    kind: Any = KINDS[str(configuration["distributed_type"])]
    said = configuration.get({"fsdp": "fsdp_config", "deepspeed": "deepspeed_config"}.get(kind, "")) or {}
    options = {str(key).removeprefix("fsdp_"): value for key, value in said.items()}
    precision = str(configuration.get("mixed_precision") or "no")
    return Layout(kind, options, precision, configuration.get("parallelism_config") or {})


def layout_here() -> Layout:
    """Read what `accelerate launch` told this process in its environment."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Layout("one")
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    size = os.environ.get("PARALLELISM_CONFIG_DP_SHARD_SIZE")
    parallelism = {"dp_shard_size": size} if size else {}
    for name, prefix in (("FSDP", "FSDP_"), ("DEEPSPEED", "ACCELERATE_DEEPSPEED_")):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            options = {
                key.removeprefix(prefix).lower(): _plain(value)
                for key, value in os.environ.items()
                if key.startswith(prefix)
            }
            if "config_file" in options and options["config_file"] != "none":
                options["deepspeed_config_file"] = options["config_file"]
            return Layout(KINDS[name], options, precision, parallelism)  # pyright: ignore[reportArgumentType]
    return Layout("ddp", {}, precision, parallelism)


def refuse_unsound(recipe: Recipe, layout: Layout) -> None:
    """Raise RecipeError, with every reason, where this recipe cannot be trained with this layout."""
    found = list(_unsound(recipe, layout))
    if found:
        told = "\n".join(f"{what}\n    why:    {why}\n    to do:  {remedy}" for what, why, remedy in found)
        raise RecipeError(told)


def _unsound(recipe: Recipe, layout: Layout) -> Iterator[tuple[str, str, str]]:
    """Yield (what, why, what to do)."""
    yield from _precision(recipe, layout)
    if layout.parallelism:
        yield (
            "parallelism_config is not trained with here",
            "a batch is one flat row of sequences that share prefixes; it is divided by rows, not by tokens or heads",
            "remove parallelism_config from the accelerate configuration",
        )
    if layout.kind == "deepspeed":
        yield (
            f"DeepSpeed ({layout.name}) is not trained with here",
            "it updates weights within the last backward pass, before a loss or gradient that is no number can stop it",
            "recipes/accelerate/fsdp2.yaml divides the same over the processes",
        )
    if layout.kind == "fsdp":
        yield from _fsdp(layout)
    if layout.divides_weights:
        yield from _divided(recipe, layout)


def _precision(recipe: Recipe, layout: Layout) -> Iterator[tuple[str, str, str]]:
    said = layout.mixed_precision
    if said == "no" or recipe.training.get(said):
        return
    yield (
        f"mixed_precision: {said} in the accelerate configuration, which the recipe does not say",
        "the reference and the checks before training are computed as the recipe says, and must agree with training",
        "mixed_precision: 'no' in the accelerate configuration, and bf16=true in the recipe",
    )


def _fsdp(layout: Layout) -> Iterator[tuple[str, str, str]]:
    options = layout.options
    if int(options.get("version", 1)) != 2:
        yield (
            "fsdp_version: 1 is not trained with here",
            "it melts the weights of a layer into one flat tensor, so that adapters and the head cannot be told apart",
            "fsdp_version: 2 in the accelerate configuration",
        )
    if _is_true(options.get("cpu_ram_efficient_loading")):
        yield (
            "fsdp_cpu_ram_efficient_loading: true leaves all processes but one without weights until training",
            "each checks the model and scores its share of the reference before weights are divided",
            "fsdp_cpu_ram_efficient_loading: false",
        )
    if _is_true(options.get("activation_checkpointing")):
        yield (
            "fsdp_activation_checkpointing: true belongs into the recipe",
            "the forecast of memory and the checks before training follow the recipe",
            "fsdp_activation_checkpointing: false, and activation_checkpointing=true in the recipe",
        )
    policy = str(options.get("auto_wrap_policy", "NO_WRAP")).upper()
    if policy != "TRANSFORMER_BASED_WRAP":
        yield (
            f"fsdp_auto_wrap_policy: {policy} is not trained with here",
            "layers must be divided one by one, and embeddings and head stay together, which are read around them",
            "fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
        )


def _divided(recipe: Recipe, layout: Layout) -> Iterator[tuple[str, str, str]]:
    model = recipe.model
    if model.load_in_4bit or model.load_in_8bit:
        yield (
            f"quantized weights with {layout.name}",
            "they are packed into bytes beside their scales, and cannot be cut into parts that add up again",
            "recipes/accelerate/ddp.yaml: quantized weights are small enough for every process to have them whole",
        )
    if model.use_peft and model.adapter_continuation == "stack":
        yield (
            f"adapter_continuation: stack with {layout.name}",
            "two adapters are saved as one from their whole weights, of which no process has all",
            "adapter_continuation=merge, or recipes/accelerate/ddp.yaml",
        )
    if recipe.objective.moving_reference is not None:
        yield (
            f"a reference that moves (sync_ref_model) with {layout.name}",
            "it takes the policy's place in whole weights, of which no process has all",
            "sync_ref_model=false, or recipes/accelerate/ddp.yaml",
        )
    if recipe.training.get("load_best_model_at_end"):
        yield (
            f"load_best_model_at_end with {layout.name}",
            "weights are divided from the first step to the last, and not read anew at the end",
            "load_best_model_at_end=false; the best checkpoint is a model that can be used as it is",
        )


def _plain(value: str) -> Any:
    return {"true": True, "false": False}.get(value.lower(), value)


def _is_true(value: Any) -> bool:
    return value is True or str(value).lower() == "true"
