"""What was just saved, opened again: as many weights as were trained, of the same shapes, none of them empty."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poise.errors import DivergenceError


def check_saved(model: Any, folder: Path) -> None:
    """Raise DivergenceError where the files do not hold the model, or the whole adapter, that was to be saved.

    Reads the headers of the files alone. Weights may have other names in a file than in the model, so that they are
    counted; shapes are held against each other where the names agree.
    """
    from peft import PeftModel

    found = saved_shapes(folder)
    adapted = isinstance(model, PeftModel)
    expected = {name: tuple(each.shape) for name, each in _kept(model) if each.requires_grad or not adapted}
    wanted, held = _elements(expected), _elements(found)
    both = sorted(expected.keys() & found.keys())
    wrong = [f"{name} is {found[name]}, not {expected[name]}" for name in both if found[name] != expected[name]]
    wrong += [f"{name} is empty" for name, shape in found.items() if 0 in shape]
    if held < wanted if adapted else held != wanted:
        wrong.append(f"{held:,} weights were written, {wanted:,} were to be saved")
    if wrong:
        raise DivergenceError(
            f"what was saved in {folder.name} is not the {'adapter' if adapted else 'model'} that was trained: "
            f"{'; '.join(wrong[:3])}\n"
            "    why:    weights were not gathered from all processes, or not written\n"
            "    to do:  report it with the accelerate configuration; earlier checkpoints were checked and are whole"
        )


def saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor in a folder's files of weights."""
    from safetensors import safe_open

    found: dict[str, tuple[int, ...]] = {}
    for file in [*folder.glob("model*.safetensors"), *folder.glob("adapter_model*.safetensors")]:
        with safe_open(file, "np") as tensors:  # pyright: ignore[reportUnknownVariableType]
            found |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return found


def _kept(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a model saves: parameters, tied ones once, and the buffers it keeps."""
    yield from model.named_parameters()
    for name, module in model.named_modules():
        passing = module._non_persistent_buffers_set
        yield from (
            (f"{name}.{key}".lstrip("."), buffer)
            for key, buffer in module.named_buffers(recurse=False)
            if key not in passing
        )


def _elements(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
