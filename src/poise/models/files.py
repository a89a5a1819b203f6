"""Look at a model's folder before a library reads it: plain files inside it, sound JSON, safetensors within bounds.

    model.safetensors    8 bytes: length of the header · the header, JSON: name -> dtype, shape, offsets · the bytes
    *.index.json         name of a tensor -> file, which must lie in the folder

A file that is refused is not opened by transformers, peft or safetensors.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, cast

from poise.errors import ModelError

CONFIG, ADAPTER_CONFIG, INDEX = "config.json", "adapter_config.json", "model.safetensors.index.json"
WEIGHTS, ADAPTER_WEIGHTS = "model.safetensors", "adapter_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
"""Endings of files that can run code when they are opened, or are older forms of weights."""
SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model")
"""Files beside the weights that libraries read."""
JSON_BYTES, VOCABULARY_BYTES, HEADER_BYTES = 32 * 2**20, 128 * 2**20, 64 * 2**20
"""The largest known: an index of 9 MB, a tokenizer.json of 34 MB, headers of some MB."""
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.safetensors")
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of an element, by the names that safetensors gives types."""


def refused(place: Path | str, what: str, remedy: str = "use a model from a source that you trust") -> ModelError:
    """Make the error for a file that no library should read."""
    return ModelError(
        f"{place}: {what}\n    why:    a model's files may be made to harm, so poise reads only what it understands\n"
        f"    to do:  {remedy}"
    )


def check_settings(folder: Path) -> None:
    """Refuse a folder in which a file beside the weights is no plain file in it, or too large to be what it says."""
    for path in sorted({found for pattern in SETTINGS for found in folder.glob(pattern)}):
        check_plain(folder, path)
        limit = VOCABULARY_BYTES if path.name in VOCABULARIES else JSON_BYTES
        if path.stat().st_size > limit:
            raise refused(path, f"{path.stat().st_size:,} bytes, more than any {path.name} has ({limit:,})")


def check_plain(folder: Path, path: Path) -> None:
    """Refuse a pipe, a device, or a link that leads out of the folder; the Hub's cache links into its own blobs."""
    try:
        target = path.resolve(strict=True)
        kind = target.stat().st_mode
    except (OSError, RuntimeError) as error:
        raise refused(path, f"it cannot be read ({error})") from None
    if not stat.S_ISREG(kind):
        raise refused(path, "it is no plain file")
    inside = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        inside.append(folder.resolve().parent.parent / "blobs")
    if not any(target.is_relative_to(each) for each in inside):
        raise refused(
            path, f"it is a link out of its folder, to {target}", f"copy it there, or use {target.parent} as the model"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a mapping from a JSON file that was found plain."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise refused(path, f"it is no sound JSON ({str(error)[:200]})") from None
    if not isinstance(found, dict):
        raise refused(path, "it holds no mapping")
    return cast("dict[str, Any]", found)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that is there twice, of which readers take different ones."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return made


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model or adapter; ModelError where there are none, or names lead elsewhere."""
    index = folder / INDEX
    if index.is_file():
        check_plain(folder, index)
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise refused(index, "it maps no weights")
        names = sorted({str(name) for name in cast("dict[str, Any]", shards).values()})
        for name in names:
            if not SHARD.fullmatch(name):
                raise refused(index, f"it names {name[:100]!r}, which is no safetensors file beside it")
        files = [folder / name for name in names]
    else:
        files = [path for path in (folder / WEIGHTS, folder / ADAPTER_WEIGHTS) if os.path.lexists(path)]
    if not files:
        pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLES]
        what = f"its weights are in {pickles[0]}, which can run code when it is opened" if pickles else "no weights"
        raise refused(folder, what, "use a model whose weights are in safetensors files; poise loads no others")
    return files


def check_weights(folder: Path) -> dict[str, tuple[int, ...]]:
    """Refuse weights whose headers do not fit their files; returns name -> shape of all tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        check_plain(folder, path)
        shapes |= dict(_tensors(path))
    return shapes


def _tensors(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(HEADER_BYTES, size - 8):
            raise refused(path, f"its header of {length:,} bytes does not fit a file of {size:,}")
        header = file.read(length)
    try:
        entries = json.loads(header, object_pairs_hook=_once)
        entries.pop("__metadata__", None)
        items = list(entries.items())
    except (ValueError, RecursionError, AttributeError) as error:
        raise refused(path, f"its header is no sound JSON ({str(error)[:200]})") from None
    for name, entry in items:
        if not _fits(entry, size - 8 - length):
            raise refused(path, f"tensor {name[:100]!r} does not lie in the file as it says")
        yield name, tuple(entry["shape"])


def _fits(entry: Any, room: int) -> bool:
    """Whether a tensor's bytes are as many as its type and shape need, and lie in the file."""
    try:
        start, end = entry["data_offsets"]
        shape = entry["shape"]
        whole = all(type(each) is int and each >= 0 for each in (start, end, *shape))
        return whole and start <= end <= room and prod(shape) * BITS[entry["dtype"]] == 8 * (end - start)
    except (KeyError, TypeError, ValueError):
        return False


def elements(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Count the numbers in all tensors."""
    return sum(prod(shape) for shape in shapes.values())
