"""Neighbours above a cosine: all of them, whichever index is searched."""

import numpy as np
import pytest

from poise.curate.minhash import Block
from poise.curate.neighbours import neighbours
from poise.errors import DataError


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def joined(vectors: np.ndarray, threshold: float, **keys) -> Block:
    blocks = list(neighbours(vectors, threshold, **keys)[0])
    return np.concatenate([pairs for pairs, _ in blocks]), np.concatenate([cosines for _, cosines in blocks])


def test_pairs_within_an_angle_are_found_whatever_their_length() -> None:
    # cos 10 = 0.985, cos 20 = 0.940, cos 30 = 0.866
    vectors = at_angles(0, 30, 10) * np.float32([[1], [5], [0.1]])
    pairs, cosines = joined(vectors, 0.9)
    assert pairs.tolist() == [[0, 2], [1, 2]]
    assert cosines == pytest.approx(np.cos(np.radians([10, 20])))


@pytest.mark.parametrize("exact_rows", [50_000, 0])
def test_a_row_is_not_its_own_neighbour_among_equal_ones_and_no_cluster_is_cut(exact_rows: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    vectors[100:130] = vectors[100]
    pairs, cosines = joined(vectors, 0.95, exact_rows=exact_rows)
    assert len(pairs) == 30 * 29 // 2
    assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs) and (pairs[:, 0] < pairs[:, 1]).all()
    assert cosines == pytest.approx(1)


def test_blocks_go_up_in_the_later_row() -> None:
    vectors = np.ones((1100, 2), np.float32)
    highest = [int(pairs[:, 1].max()) for pairs, _ in neighbours(vectors, 0.9)[0]]
    assert highest == [511, 1023, 1099]


def test_an_inverted_file_finds_what_comparing_all_finds() -> None:
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(300, 32))
    vectors = (centres[chance.integers(0, 300, 3000)] + chance.normal(size=(3000, 32)) * 0.25).astype(np.float32)
    exact, _ = joined(vectors, 0.95)
    blocks, facts = neighbours(vectors, 0.95, exact_rows=0)
    found = np.concatenate([pairs for pairs, _ in blocks])
    assert facts["index"] == "inverted file" and facts["lists"] == int(4 * 3000**0.5)
    assert facts["sampled rows"] == 1000 and facts["sampled pairs"] > 500
    assert facts["sampled recall"] >= 0.99
    assert set(map(tuple, found.tolist())) <= set(map(tuple, exact.tolist()))
    assert len(found) >= 0.98 * len(exact)


@pytest.mark.parametrize("exact_rows", [50_000, 0])
def test_a_vector_of_zeros_is_near_nothing(exact_rows: int) -> None:
    vectors = np.zeros((40, 2), np.float32)
    vectors[:2] = 1
    assert joined(vectors, 0.5, exact_rows=exact_rows)[0].tolist() == [[0, 1]]


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float64])
def test_vectors_that_are_not_float32_are_refused(dtype: type) -> None:
    with pytest.raises(DataError, match=f"sentence vectors are {np.dtype(dtype)}"):
        neighbours(np.ones((2, 2), dtype), 0.9)


def test_a_vector_that_is_not_finite_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match="text 1 holds NaN"):
        neighbours(np.array([[1, 0], [np.nan, 0]], np.float32), 0.9)
