"""Texts alike in meaning: sentence vectors, their neighbours above a cosine, and what a threshold means to a model.

    texts ──embedded──> vectors (texts, dimensions) float32 ──neighbours──> pairs with cosine >= threshold

A threshold belongs to a model with its pooling, prefix and dtype: `Encoder.space` is kept beside every result, and
vectors of two spaces are never compared. `calibrated` shows what a threshold lets through.
"""

import hashlib
import importlib
import json
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from poise.curate.minhash import Block, Pairs, Similarities, Texts, byte_offsets, each_text, text_array
from poise.errors import DataError, ModelError, ResourceError

Vectors = NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]
"""Texts, of about one length, -> vectors (texts, dimensions)."""

EXACT_ROWS = 50_000
"""Up to here every pair is compared: 3.3 CPU-seconds at 25,000 rows of 384 dimensions."""
SAMPLED_ROWS = (1_000, 5_000)
"""Rows whose neighbours are compared with all: a fortieth, within these."""
RECALL = 0.99
FIRST_PROBES = 4
TRAINED_PER_LIST = 39
"""Vectors per list that k-means sees: faiss asks for so many at least, and more made recall no better."""
KMEANS_ROUNDS = 5
QUERIED_ROWS = 512
ADDED_ROWS = 1 << 16
RESCORED_PAIRS = 1 << 13
ENCODED_TEXTS = 4096
ROUNDING = 1e-5
"""float32 products differ by less between block sizes; what is near the threshold is computed again in float64."""

MARKS = re.compile(
    r"`[^`\n]+`"  # code set in backticks
    r"|\b\w+(?=\()"  # what is called
    r"|\b\w*_\w+|\b[a-z]+[A-Z]\w*"  # names in snake_case and camelCase
    r"|-?\d+(?:[.,:/]\d+)*"
    r"|[-!]?[+*/%=<>&|^~\\$]+|(?<= )-(?= )"  # operators; a hyphen is none
)
EDITS = {"2 % of words": 0.02, "5 % of words": 0.05, "10 % of words": 0.1, "20 % of words": 0.2}
NUMBERS = "every number"


@dataclass(frozen=True)
class Encoder:
    """A model that makes vectors, and the space they are in."""

    encode: Encode
    space: dict[str, str]
    """model, revision, pooling, prefix, dtype: all that a threshold and a stored vector depend on."""


@dataclass(frozen=True)
class Calibration:
    """How near a model puts texts that were edited in one way."""

    edit: str
    texts: int
    median: float
    share: float
    """Of the texts, how many are at or above the threshold."""


def neighbours(
    vectors: Vectors, threshold: float, *, exact_rows: int = EXACT_ROWS
) -> tuple[Iterator[Block], dict[str, Any]]:
    """Return blocks of pairs with a cosine of at least `threshold`, and how they were searched for.

    Every neighbour above the threshold is returned, never the nearest few: copies of copies would hide others. Pairs
    are (earlier row, later row) and blocks go up in the later row, as `kept_greedily` wants them. Above `exact_rows`
    an inverted file is searched, of more and more of its lists until a sample finds RECALL of its pairs.
    """
    lengths = _lengths(vectors)
    if len(vectors) <= exact_rows:
        return _rescored(_compared(vectors, lengths, threshold), vectors, threshold), {"index": "exact"}
    index, facts = _inverted_file(vectors, lengths, threshold)
    return _rescored(_searched(index, vectors, lengths, threshold), vectors, threshold), facts


def embedded(texts: Any, encoder: Encoder, cache: Path | None = None) -> tuple[Vectors, NDArray[np.int64]]:
    """Return the vectors of distinct texts, in their order, and for each text which of them is its own.

    `texts` is a list or a column, of which a batch at a time is made into Python's strings.

    With a `cache` folder vectors are stored by space and text, and only what is missing is encoded.
    """
    store = _Store(cache / _digest(json.dumps(encoder.space, sort_keys=True)), encoder.space) if cache else None
    numbers: dict[str, int] = {}
    missing: dict[str, int] = {}
    which: list[int] = []
    column = text_array(texts)
    for row, text in enumerate(each_text(column)):
        key = _digest(text)
        which.append(numbers.setdefault(key, len(numbers)))
        if store is None or key not in store:
            missing.setdefault(key, row)
    made: dict[str, NDArray[np.float32]] = {}
    for keys, vectors in _encoded(missing, column, encoder.encode):
        if store is None:
            made.update(zip(keys, vectors, strict=True))
        else:
            store.add(keys, vectors)
    if store is None:
        found = np.stack([made[key] for key in numbers]) if numbers else np.empty((0, 0), np.float32)
    else:
        found = store.vectors(numbers)
    return found, np.array(which, np.int64)


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


def calibrated(encode: Encode, texts: Sequence[str], threshold: float, *, seed: int = 0) -> list[Calibration]:
    """Show what a threshold means to a model, on edits that are known: words replaced, every number changed."""
    originals = dict(zip(texts, _unit(_checked(encode(list(texts)))), strict=True)) if texts else {}
    vocabulary = sorted({word for text in texts for word in text.split()})
    edited = {
        name: [(text, _replaced(text, share, vocabulary, _chance(seed, text))) for text in texts if text.split()]
        for name, share in EDITS.items()
    }
    edited[NUMBERS] = [(text, _renumbered(text, _chance(seed, text))) for text in texts if re.search(r"\d", text)]
    return [_calibration(name, pairs, originals, encode, threshold) for name, pairs in edited.items() if pairs]


def marks(text: str) -> list[str]:
    """Return the numbers, operators and code names of a text, sorted: what changes its answer but hardly its vector."""
    return sorted(MARKS.findall(text))


def differ_in_marks(one: str, other: str) -> bool:
    """Whether two texts hold other numbers or code, and so are not near-duplicates however near their vectors are."""
    return marks(one) != marks(other)


def needed(package: str) -> Any:
    """Import a package of the extra `embed`."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ResourceError(
            f"near-duplicates by embeddings need the package {package}, which is not installed\n"
            "    why:    models and their search are an extra, because method: minhash needs neither\n"
            "    to do:  pip install 'poise[embed]', or leave `method` out"
        ) from None


def _checked(vectors: Any) -> Vectors:
    """Refuse what is not float32: a threshold means something else to int8, whose cosines to it are off by 0.05."""
    dtype = getattr(vectors, "dtype", type(vectors).__name__)
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        raise DataError(
            f"sentence vectors are {dtype}, expected rows of float32\n"
            "    why:    a cosine threshold holds for one dtype; int8 vectors moved cosines by 0.05 on average\n"
            "    to do:  let the model encode in float32"
        )
    return vectors


def _lengths(vectors: Vectors) -> NDArray[np.float32]:
    """Return the length of every vector, infinite where it is zero, so that nothing is near it."""
    lengths = np.sqrt(np.einsum("ij,ij->i", _checked(vectors), vectors))
    if not np.isfinite(lengths).all():
        raise DataError(
            f"the vector of text {int(np.argmin(np.isfinite(lengths)))} holds NaN or infinity\n"
            "    why:    it has no cosine to any other\n    to do:  check the model on this text"
        )
    return np.where(lengths > 0, lengths, np.float32(np.inf))


def _unit(vectors: Vectors) -> Vectors:
    return vectors / _lengths(vectors)[:, None]


def _compared(vectors: Vectors, lengths: NDArray[np.float32], threshold: float) -> Iterator[Pairs]:
    """Compare every row with all before it."""
    unit = vectors / lengths[:, None]
    for start in range(0, len(unit), QUERIED_ROWS):
        cosines = unit[start : start + QUERIED_ROWS] @ unit[: start + QUERIED_ROWS].T
        later, earlier = np.nonzero(cosines >= threshold - ROUNDING)
        yield _before(earlier, later + start)


def _searched(index: Any, vectors: Vectors, lengths: NDArray[np.float32], threshold: float) -> Iterator[Pairs]:
    for start in range(0, len(vectors), QUERIED_ROWS):
        block = slice(start, start + QUERIED_ROWS)
        later, earlier = _in_range(index, vectors[block] / lengths[block, None], threshold)
        yield _before(earlier, later + start)


def _before(earlier: NDArray[np.int64], later: NDArray[np.int64]) -> Pairs:
    """Keep what is really earlier: a row is not its own neighbour, wherever among equals it was found."""
    is_before = earlier < later
    return np.column_stack([earlier[is_before], later[is_before]])


def _rescored(blocks: Iterable[Pairs], vectors: Vectors, threshold: float) -> Iterator[Block]:
    """Give every pair its cosine, the same in whichever block it was found."""
    for pairs in blocks:
        parts = [_cosines(pairs[at : at + RESCORED_PAIRS], vectors) for at in range(0, len(pairs), RESCORED_PAIRS)]
        cosines = np.concatenate([np.empty(0), *parts])
        alike = cosines >= threshold
        yield pairs[alike], cosines[alike]


def _cosines(pairs: Pairs, vectors: Vectors) -> Similarities:
    one, other = (vectors[column].astype(np.float64) for column in pairs.T)
    squares = np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", other, other)
    return np.minimum(np.einsum("ij,ij->i", one, other) / np.sqrt(squares), 1.0)


def _inverted_file(vectors: Vectors, lengths: NDArray[np.float32], threshold: float) -> tuple[Any, dict[str, Any]]:
    """Build an index and raise the lists it probes until a sample's neighbours are found."""
    faiss = needed("faiss")
    count, dimensions = vectors.shape
    lists = int(4 * count**0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.max_points_per_centroid = KMEANS_ROUNDS, TRAINED_PER_LIST
    chosen = np.sort(np.random.default_rng(0).permutation(count)[: lists * TRAINED_PER_LIST])
    index.train(vectors[chosen] / lengths[chosen, None])
    for start in range(0, count, ADDED_ROWS):
        block = slice(start, start + ADDED_ROWS)
        index.add(vectors[block] / lengths[block, None])
    sampled = int(np.clip(count // 40, *SAMPLED_ROWS))
    sample = np.sort(np.random.default_rng(1).permutation(count)[:sampled])
    unit = vectors[sample] / lengths[sample, None]
    true = _all_near(unit, sample, vectors, lengths, threshold)
    probes, recall = FIRST_PROBES, _recall(index, unit, sample, true, threshold, FIRST_PROBES)
    while recall < RECALL and probes < lists:
        probes = min(2 * probes, lists)
        recall = _recall(index, unit, sample, true, threshold, probes)
    facts = {"index": "inverted file", "lists": lists, "probed lists": probes}
    return index, facts | {"sampled rows": len(sample), "sampled pairs": len(true), "sampled recall": recall}


def _all_near(
    unit: Vectors, sample: NDArray[np.int64], vectors: Vectors, lengths: NDArray[np.float32], threshold: float
) -> NDArray[np.int64]:
    """Return the neighbours of sampled rows by comparing all, as sorted numbers row * rows + neighbour."""
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(vectors), 4 * QUERIED_ROWS):
        block = slice(start, start + 4 * QUERIED_ROWS)
        row, near = np.nonzero(unit @ (vectors[block] / lengths[block, None]).T >= threshold)
        found.append(_coded(sample[row], near + start, len(vectors)))
    return np.sort(np.concatenate(found))


def _recall(
    index: Any, unit: Vectors, sample: NDArray[np.int64], true: NDArray[np.int64], threshold: float, probes: int
) -> float:
    index.nprobe = probes
    row, near = _in_range(index, unit, threshold)
    found = _coded(sample[row], near, index.ntotal)
    return float(np.isin(true, found).mean()) if len(true) else 1.0


def _coded(row: NDArray[np.int64], near: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Write pairs as numbers, without those of a row and itself."""
    other = row != near
    return row[other] * count + near[other]


def _in_range(index: Any, unit: Vectors, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (query, neighbour) of everything the index finds above the threshold."""
    limits, _, near = index.range_search(unit, threshold - ROUNDING)
    return np.repeat(np.arange(len(unit)), np.diff(limits.astype(np.int64))), near


def _encoded(rows: dict[str, int], texts: Texts, encode: Encode) -> Iterator[tuple[list[str], Vectors]]:
    """Encode texts of like length together, the longest first, so that too little memory shows at once."""
    lengths = np.diff(byte_offsets(texts)).tolist()
    keys = sorted(rows, key=lambda key: (-lengths[rows[key]], key))
    for start in range(0, len(keys), ENCODED_TEXTS):
        batch = keys[start : start + ENCODED_TEXTS]
        yield batch, _checked(encode(texts.take(pa.array([rows[key] for key in batch])).to_pylist()))


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
        path = self._folder / f"{_digest(' '.join(keys))}.npz"
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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def weights_digest(folder: Path) -> str:
    """Hash the weights and settings of a model in a folder, which has no commit."""
    digest = hashlib.sha256()
    for path in sorted([*folder.rglob("*.safetensors"), *folder.rglob("*.json")]):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _calibration(
    edit: str, pairs: list[tuple[str, str]], originals: dict[str, Any], encode: Encode, threshold: float
) -> Calibration:
    edited = _unit(_checked(encode([after for _, after in pairs])))
    cosines = np.array([originals[before] @ vector for (before, _), vector in zip(pairs, edited, strict=True)])
    share = float((cosines >= threshold).mean())
    return Calibration(edit, len(pairs), float(np.median(cosines)), share)


def _chance(seed: int, text: str) -> random.Random:
    return random.Random(f"{seed} {_digest(text)}")


def _replaced(text: str, share: float, vocabulary: list[str], chance: random.Random) -> str:
    """Replace a share of the words, at least one, by others of the texts."""
    parts = text.split()
    for place in chance.sample(range(len(parts)), max(1, round(share * len(parts)))):
        parts[place] = chance.choice(vocabulary)
    return " ".join(parts)


def _renumbered(text: str, chance: random.Random) -> str:
    """Change every digit into another one; a number keeps its length."""
    return re.sub(r"[0-9]", lambda digit: str((int(digit[0]) + chance.randint(1, 9)) % 10), text)
