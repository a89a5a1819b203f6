"""Neighbours: the pairs of vectors whose cosine is at or above a threshold, all of them.

    vectors (rows, dimensions) float32 ──neighbours──> (earlier row, later row), cosine

Up to EXACT_ROWS every pair is compared; above, an inverted file is searched whose recall is measured on a sample.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.curate.encoder import Vectors, checked, needed
from poise.curate.minhash import Block, Pairs, Similarities
from poise.errors import DataError

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
COMPARED_PAIRS = 1 << 24
ADDED_ROWS = 1 << 16
RESCORED_PAIRS = 1 << 13
ROUNDING = 1e-5
"""float32 products differ by less between block sizes; what is near the threshold is computed again in float64."""


def neighbours(
    vectors: Vectors, threshold: float, *, exact_rows: int = EXACT_ROWS
) -> tuple[Iterator[Block], dict[str, Any]]:
    """Return blocks of pairs with a cosine of at least `threshold`, and how they were searched for.

    Every neighbour above the threshold is returned, never the nearest few: copies of copies would hide others. Pairs
    are (earlier row, later row) and blocks go up in the later row, as `kept_greedily` wants them. Above `exact_rows`
    an inverted file is searched, of more and more of its lists until a sample finds RECALL of its pairs.
    """
    lengths = lengths_of(vectors)
    if len(vectors) <= exact_rows:
        return _rescored(_compared(vectors, lengths, threshold), vectors, threshold), {"index": "exact"}
    index, facts = _inverted_file(vectors, lengths, threshold)
    return _rescored(_searched(index, vectors, lengths, threshold), vectors, threshold), facts


def across(vectors: Vectors, indexed: Vectors, threshold: float) -> Iterator[Block]:
    """Yield the pairs (row of `vectors`, row of `indexed`) with a cosine of at least `threshold`; all are compared."""
    lengths, right = lengths_of(vectors), unit(indexed)
    rows = max(1, COMPARED_PAIRS // max(1, len(indexed)))
    for start in range(0, len(vectors), rows):
        cosines = (vectors[start : start + rows] / lengths[start : start + rows, None]) @ right.T
        one, other = np.nonzero(cosines >= threshold - ROUNDING)
        found = _cosines_of(vectors[start + one], indexed[other])
        alike = found >= threshold
        yield np.column_stack([start + one[alike], other[alike]]), found[alike]


def lengths_of(vectors: Vectors) -> NDArray[np.float32]:
    """Return the length of every vector, infinite where it is zero, so that nothing is near it."""
    lengths = np.sqrt(np.einsum("ij,ij->i", checked(vectors), vectors))
    if not np.isfinite(lengths).all():
        raise DataError(
            f"the vector of text {int(np.argmin(np.isfinite(lengths)))} holds NaN or infinity\n"
            "    why:    it has no cosine to any other\n    to do:  check the model on this text"
        )
    return np.where(lengths > 0, lengths, np.float32(np.inf))


def unit(vectors: Vectors) -> Vectors:
    """Scale every vector to length 1; one of zeros stays."""
    return vectors / lengths_of(vectors)[:, None]


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
    return _cosines_of(vectors[pairs[:, 0]], vectors[pairs[:, 1]])


def _cosines_of(one: Vectors, other: Vectors) -> Similarities:
    """Return the cosine of each row with its own of the other side, in float64."""
    left, right = one.astype(np.float64), other.astype(np.float64)
    squares = np.einsum("ij,ij->i", left, left) * np.einsum("ij,ij->i", right, right)
    return np.minimum(np.einsum("ij,ij->i", left, right) / np.sqrt(squares), 1.0)


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
