"""Checkpoints of a run: sealed folders `checkpoint-<step>`, of which the newest that verifies is gone on from.

checkpoint-8/
  model.safetensors, config.json, …     the weights or the adapter, with the tokenizer
  optimizer.json, .safetensors          its state; schedule.json beside it
  process-0.json, .safetensors          random numbers and counters of each process
  trainer_state.json                    where transformers' loop stands
  moving_reference/                     of an objective that has one
  sealed.json                           hashes of all of them, and the recipe, rows and weights they belong to
"""

import shutil
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from poise import progress
from poise.errors import DivergenceError, ResourceError
from poise.sealed import damage, discard, read_seal, seal
from poise.train.adapters import load_adapter_weights

NAME = "checkpoint-"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was verified."""

    path: Path
    facts: Mapping[str, Any]
    """What its seal says beside the hashes."""

    @property
    def step(self) -> int:
        """How many updates were made."""
        return int(self.facts["step"])

    @property
    def identity(self) -> Mapping[str, Any]:
        """Recipe, rows, weights and versions it belongs to."""
        return self.facts["identity"]


def newest_checkpoint(folder: Path, before: int | None = None) -> Checkpoint | None:
    """Return the newest checkpoint that verifies and can be gone on from; what is passed over is told in a line.

    `before` is a step that it must not have made.
    """
    for path in sorted(_named(folder), key=_step, reverse=True):
        if before is not None and _step(path) >= before:
            continue
        wrong = damage(path)
        if wrong is None and not read_seal(path)["is_resumable"]:
            wrong = "save_only_model kept the weights alone"
        if wrong is None:
            return Checkpoint(path, read_seal(path))
        progress.say(f"warning: {path} is passed over: {wrong}")
    return None


def commit(staging: Path, final: Path, facts: Mapping[str, Any]) -> None:
    """Give a staged checkpoint its name; one that has it already is set aside."""
    if final.exists():
        _set_aside(final)
    seal(staging, final, facts)


def rotate(folder: Path, keep: int | None, best: str | None) -> None:
    """Remove the oldest checkpoints but the best one, which may be loaded at the end."""
    steps = sorted((path for path in _named(folder) if _is_ours(path)), key=_step)
    for old in steps[:-keep] if keep else []:
        if str(old) != best:
            _discard(old)


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps, which are to be made again."""
    for path in _named(folder):
        if _step(path) > step:
            _set_aside(path)


def load_weights(model: Any, folder: Path) -> None:
    """Put a checkpoint's weights into the model."""
    from peft import PeftModel
    from safetensors.torch import load_file

    if isinstance(model, PeftModel):
        load_adapter_weights(model, folder)
        return
    weights: dict[str, Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        weights |= load_file(file)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = set(model.all_tied_weights_keys)
    if unexpected or set(missing) - tied:
        raise DivergenceError(f"{folder} does not hold this model: missing {missing[:3]}, unknown {unexpected[:3]}")


@contextmanager
def written(what: str, folder: Path, needed_bytes: int) -> Generator[None]:
    """Say of a disk that fails what was being written, and what is needed and free."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and "os error" not in str(error):  # as safetensors and tokenizers tell it
            raise
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ResourceError(
            f"cannot write {what} in {folder}: {said}\n"
            f"    why:    {needed_bytes:,} bytes are needed, {free_bytes(folder):,} free; what was there is untouched\n"
            "    to do:  make room, or set save_total_limit=1; then the same command with --resume"
        ) from error


def free_bytes(folder: Path) -> int:
    """Return how much can still be written into a folder that may not be there yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _named(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"{NAME}*") if path.name.removeprefix(NAME).isdigit()]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(NAME))


def _is_ours(path: Path) -> bool:
    try:
        read_seal(path)
    except ValueError:
        return False
    return True


def _set_aside(path: Path) -> None:
    """Free a name: what has our seal is removed as far as the seal goes, anything else is only renamed."""
    if _is_ours(path):
        _discard(path)
        return
    other = path.with_name(f"set-aside-{path.name}-{uuid.uuid4().hex[:8]}")
    path.rename(other)
    progress.say(f"note: {path} is not a checkpoint that can be used; it is now {other.name}")


def _discard(path: Path) -> None:
    left = discard(path)
    if left is not None:
        progress.say(f"note: {path} held files that poise did not write; they are in {left}")
