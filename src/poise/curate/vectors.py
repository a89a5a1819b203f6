"""Sentence vectors of texts: each distinct one is encoded once, and what a cache folder holds is not encoded again.

    texts ──embedded──> vectors (distinct texts, dimensions) float32, and for each text which of them is its own

A stored vector stands under the space it is in, so that vectors of two models are never mixed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from poise import progress
from poise.curate.encoder import Encode, Encoder, Vectors, checked
from poise.curate.minhash import Texts, byte_offsets, each_text, text_array

ENCODED_TEXTS = 4096


def embedded(texts: Any, encoder: Encoder, cache: Path | None = None) -> tuple[Vectors, NDArray[np.int64]]:
    """Return the vectors of distinct texts, in their order, and for each text which of them is its own.

    `texts` is a list or a column, of which a batch at a time is made into Python's strings.

    With a `cache` folder vectors are stored by space and text, and only what is missing is encoded.
    """
    store = _Store(cache / digest(json.dumps(encoder.space, sort_keys=True)), encoder.space) if cache else None
    numbers: dict[str, int] = {}
    missing: dict[str, int] = {}
    which: list[int] = []
    column = text_array(texts)
    for row, text in enumerate(each_text(column)):
        key = digest(text)
        which.append(numbers.setdefault(key, len(numbers)))
        if store is None or key not in store:
            missing.setdefault(key, row)
    made: dict[str, NDArray[np.float32]] = {}
    with progress.stage("encode", len(missing)) as shown:
        for keys, vectors in _encoded(missing, column, encoder.encode):
            if store is None:
                made.update(zip(keys, vectors, strict=True))
            else:
                store.add(keys, vectors)
            shown.advance(shown.done + len(keys))
    if store is None:
        found = np.stack([made[key] for key in numbers]) if numbers else np.empty((0, 0), np.float32)
    else:
        found = store.vectors(numbers)
    return found, np.array(which, np.int64)


def _encoded(rows: dict[str, int], texts: Texts, encode: Encode) -> Iterator[tuple[list[str], Vectors]]:
    """Encode texts of like length together, the longest first, so that too little memory shows at once."""
    lengths = np.diff(byte_offsets(texts)).tolist()
    keys = sorted(rows, key=lambda key: (-lengths[rows[key]], key))
    for start in range(0, len(keys), ENCODED_TEXTS):
        batch = keys[start : start + ENCODED_TEXTS]
        yield batch, checked(encode(texts.take(pa.array([rows[key] for key in batch])).to_pylist()))


class _Store:
    """Vectors of one space in a folder, a file for each batch; a file is whole or not there."""

    def __init__(self, folder: Path, space: dict[str, str]) -> None:
        self._folder = folder
        self._places: dict[str, tuple[Path, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "space.json").write_text(json.dumps(space, indent=2, sort_keys=True) + "\n")
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as file:
                self._remember(path, file["keys"].tolist())

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def add(self, keys: list[str], vectors: Vectors) -> None:
        """Write a batch."""
        path = self._folder / f"{digest(' '.join(keys))}.npz"
        staged = path.with_suffix(f".{os.getpid()}")
        with staged.open("wb") as file:
            np.savez(file, keys=np.array(keys), vectors=vectors)
        staged.replace(path)
        self._remember(path, keys)

    def vectors(self, keys: Iterable[str]) -> Vectors:
        """Return the vectors of keys, in their order."""
        wanted: dict[Path, list[tuple[int, int]]] = {}
        count = 0
        for count, key in enumerate(keys, start=1):
            path, place = self._places[key]
            wanted.setdefault(path, []).append((count - 1, place))
        found = np.empty((0, 0), np.float32)
        for path, places in wanted.items():
            with np.load(path) as file:
                stored = file["vectors"]
            found = found if found.size else np.empty((count, stored.shape[1]), np.float32)
            at, place = np.array(places).T
            found[at] = stored[place]
        return found

    def _remember(self, path: Path, keys: list[str]) -> None:
        self._places.update((key, (path, place)) for place, key in enumerate(keys))


def digest(text: str) -> str:
    """Name a text by its hash."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
