"""What a run will write, held against what is free, before its first step."""

from pathlib import Path
from typing import Any

from poise.errors import ResourceError
from poise.recipe import Recipe
from poise.train.checkpoint import NAME, free_bytes
from poise.train.forecast import checkpoints
from poise.train.sizes import weight_bytes

BYTES_PER_WEIGHT = {"8bit": 2.0, "4bit": 1.0, "adafactor": 0.1, "sgd": 0.0, "lion": 4.0, "rmsprop": 4.0, "adagrad": 4.0}
"""Of an optimizer's state, by a part of its name; Adam and its kin keep two float32 numbers."""


def check_space(recipe: Recipe, model: Any, folder: Path, *, steps: int, begun: int = 0) -> None:
    """Raise ResourceError where the checkpoints and the model will not fit beside what is there."""
    weights = weight_bytes(model)
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    per_weight = next((size for name, size in BYTES_PER_WEIGHT.items() if name in recipe.training["optim"]), 8.0)
    one = weights if recipe.training.get("save_only_model") else weights + int(per_weight * trained)
    writes = checkpoints(recipe, max(0, steps - begun))
    limit = recipe.training.get("save_total_limit")
    kept = writes if limit is None else min(writes, limit + 1)  # an old one goes when the new one is whole
    there = len(list((folder / "checkpoints").glob(f"{NAME}*"))) if limit is not None else 0
    needed, free = max(0, kept - there) * one + weights, free_bytes(folder)
    if needed > free:
        raise ResourceError(
            f"{folder} has {free:,} bytes free, and this run needs {needed:,}\n"
            f"    why:    {kept} checkpoints of about {one:,} bytes at once, and the model, {weights:,}\n"
            "    to do:  make room, save less often (save_steps, save_total_limit), or choose another output_dir"
        )
