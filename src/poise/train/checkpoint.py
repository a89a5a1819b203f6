"""Checkpoints of a run: a folder each, written elsewhere and renamed, so that one is whole or not there."""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from poise.errors import DivergenceError
from poise.train.adapters import load_adapter_weights

STAGING = ".staging"
"""Where a checkpoint is written before it gets its name."""
SEEN = "poise_seen.json"
"""In a checkpoint: the tokens computed up to it."""


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint with the highest step whose last-written file is there."""
    return max(_complete(folder), key=_step, default=None)


def _complete(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if is_complete(path)]


def is_complete(checkpoint: Path) -> bool:
    """Whether the file that is written last is there."""
    return (checkpoint / "trainer_state.json").is_file()


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def load_weights(model: Any, folder: Path) -> None:
    """Put a checkpoint's weights into the model."""
    from peft import PeftModel
    from safetensors.torch import load_file

    if isinstance(model, PeftModel):
        load_adapter_weights(model, folder)
        return
    weights: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = set(model.all_tied_weights_keys)
    if unexpected or set(missing) - tied:
        raise DivergenceError(f"{folder} does not hold this model: missing {missing[:3]}, unknown {unexpected[:3]}")


def rotate(folder: Path, keep: int | None, best: str | None) -> None:
    """Remove the oldest checkpoints but the best one, which may be loaded at the end."""
    steps = sorted(_complete(folder), key=_step)
    for old in steps[:-keep] if keep else []:
        if str(old) != best:
            shutil.rmtree(old)
