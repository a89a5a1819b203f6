"""A model that makes sentence vectors, and the space they are in.

A threshold belongs to a model with its pooling, prefix and dtype: `Encoder.space` is kept beside every result, and
vectors of two spaces are never compared.
"""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.errors import DataError, ModelError, ResourceError

Vectors = NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]
"""Texts, of about one length, -> vectors (texts, dimensions)."""


@dataclass(frozen=True)
class Encoder:
    """A model that makes vectors, and the space they are in."""

    encode: Encode
    space: dict[str, str]
    """model, revision, pooling, prefix, dtype: all that a threshold and a stored vector depend on."""


def load_encoder(model: str, revision: str | None = None) -> Encoder:
    """Load a sentence-transformers model by Hub id or folder, in float32."""
    sentence_transformers = needed("sentence_transformers")
    try:
        loaded = sentence_transformers.SentenceTransformer(model, revision=revision).float()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the sentence encoder {model} cannot be loaded: {error}\n"
            "    why:    texts are compared by its vectors\n"
            "    to do:  name a sentence-transformers model of the Hub, or the folder of one"
        ) from None
    prefix = (loaded.prompts or {}).get(loaded.default_prompt_name or "", "")
    poolings = [module.get_pooling_mode_str() for module in loaded if hasattr(module, "get_pooling_mode_str")]
    commit = getattr(getattr(getattr(loaded[0], "auto_model", None), "config", None), "_commit_hash", None)
    space = {
        "model": model,
        "revision": weights_digest(Path(model)) if Path(model).is_dir() else commit or revision or "main",
        "pooling": "+".join(poolings) or "model's own",
        "prefix": prefix,
        "tokens": str(loaded.max_seq_length),
        "dtype": "float32",
    }
    return Encoder(lambda texts: loaded.encode(texts, batch_size=64, show_progress_bar=False), space)


def checked(vectors: Any) -> Vectors:
    """Refuse what is not float32: a threshold means something else to int8, whose cosines to it are off by 0.05."""
    dtype = getattr(vectors, "dtype", type(vectors).__name__)
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        raise DataError(
            f"sentence vectors are {dtype}, expected rows of float32\n"
            "    why:    a cosine threshold holds for one dtype; int8 vectors moved cosines by 0.05 on average\n"
            "    to do:  let the model encode in float32"
        )
    return vectors


def folder_digest(model: str | None) -> str | None:
    """Hash the weights of a model that lies in a folder: other weights are another space."""
    folder = Path(model) if model else None
    return weights_digest(folder) if folder is not None and folder.is_dir() else None


def weights_digest(folder: Path) -> str:
    """Hash the weights and settings of a model in a folder, which has no commit."""
    digest = hashlib.sha256()
    for path in sorted([*folder.rglob("*.safetensors"), *folder.rglob("*.json")]):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def needed(package: str) -> Any:
    """Import a package of the extra `embed`."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ResourceError(
            f"sentence vectors need the package {package}, which is not installed\n"
            "    why:    models and their search are an extra, because comparing words needs neither\n"
            "    to do:  pip install 'poise[embed]', or leave `model` out and compare by words"
        ) from None
