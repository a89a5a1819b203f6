"""The state of an optimizer, a schedule or random numbers: tensors as safetensors, all around them as JSON.

    {"state": {0: {"step": tensor}}, "betas": (0.9, 0.999)}
    <name>.json            {"state": {"~dict": [[0, {"step": {"~tensor": "0"}}]]}, "betas": {"~tuple": [0.9, 0.999]}}
    <name>.0.safetensors   0: the tensor

Reading them runs no code, whatever they hold. A tensor that stands in two places is written once.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

BYTES_PER_FILE = 1 << 30


def save_state(file: Path, state: Any) -> None:
    """Write `<file>.json` and its tensors; TypeError, with the place, for a kind of value it does not know."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    plain = _Packing(tensors)(state, file.name)
    for index, names in enumerate(_parts(tensors)):
        save_file(_apart({name: tensors[name] for name in names}), file.with_name(f"{file.name}.{index}.safetensors"))
    file.with_name(f"{file.name}.json").write_text(json.dumps(plain) + "\n", encoding="utf-8")


def load_state(file: Path) -> Any:
    """Read back what `save_state` wrote, equal and of the same types; tensors are on the CPU."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for part in file.parent.glob(f"{file.name}.*.safetensors"):
        tensors |= load_file(part)
    return _unpack(json.loads(file.with_name(f"{file.name}.json").read_text(encoding="utf-8")), tensors)


def _parts(tensors: dict[str, Tensor]) -> Iterator[list[str]]:
    """Deal tensors out to files; what is on an accelerator passes through ordinary memory a file at a time."""
    part: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        part.append(name)
        size += tensor.numel() * tensor.element_size()
        if size >= BYTES_PER_FILE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring tensors to the CPU, each in memory of its own, as safetensors wants them."""
    held, taken = {}, set[int]()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage()
        if storage.nbytes() != own.numel() * own.element_size() or storage.data_ptr() in taken:
            own = own.clone()
        taken.add(own.untyped_storage().data_ptr())
        held[name] = own
    return held


class _Packing:
    """Turns nested values into JSON, and collects the tensors among them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self._names: dict[int, str] = {}

    def __call__(self, value: Any, where: str) -> Any:
        if isinstance(value, bool | str | type(None)) or type(value) in (int, float):
            return value
        if isinstance(value, Tensor):
            return {"~tensor": self._keep(value)}
        if isinstance(value, np.ndarray):
            return {"~array": self._keep(torch.from_numpy(np.array(value)))}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, dict):
            return self._mapping(value, where)
        for kind, name in ((list, None), (tuple, "~tuple"), (set, "~set"), (deque, "~deque")):
            if isinstance(value, kind):
                items = [self(each, f"{where}[{index}]") for index, each in enumerate(value)]
                return {name: items} if name else items
        if isinstance(value, torch.dtype):
            return {"~dtype": str(value).removeprefix("torch.")}
        raise TypeError(f"{where} is a {type(value).__name__}, which a checkpoint cannot hold")

    def _mapping(self, value: dict[Any, Any], where: str) -> dict[str, Any]:
        if all(isinstance(key, str) and not key.startswith("~") for key in value):
            return {key: self(each, f"{where}.{key}") for key, each in value.items()}
        return {"~dict": [[self(key, where), self(each, f"{where}.{key}")] for key, each in value.items()]}

    def _keep(self, tensor: Tensor) -> str:
        name = self._names.setdefault(id(tensor), str(len(self._names)))
        self.tensors[name] = tensor
        return name


def _unpack(plain: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(plain, list):
        return [_unpack(each, tensors) for each in plain]
    if not isinstance(plain, dict):
        return plain
    tag = next(iter(plain), "")
    if tag not in _READ:
        return {key: _unpack(each, tensors) for key, each in plain.items()}
    return _READ[tag](plain[tag], tensors)


_READ: dict[str, Callable[[Any, dict[str, Tensor]], Any]] = {
    "~tensor": lambda name, tensors: tensors[name],
    "~array": lambda name, tensors: tensors[name].numpy(),
    "~dict": lambda pairs, tensors: {_unpack(key, tensors): _unpack(each, tensors) for key, each in pairs},
    "~tuple": lambda items, tensors: tuple(_unpack(items, tensors)),
    "~set": lambda items, tensors: set(_unpack(items, tensors)),
    "~deque": lambda items, tensors: deque(_unpack(items, tensors)),
    "~dtype": lambda name, tensors: getattr(torch, name),
}
