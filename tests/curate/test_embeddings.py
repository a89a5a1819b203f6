"""Sentence vectors: neighbours above a cosine, stored vectors, and what a threshold lets through."""

import re
from pathlib import Path

import numpy as np
import pytest

from poise.curate.embeddings import (
    Calibration,
    Encoder,
    calibrated,
    differ_in_marks,
    embedded,
    marks,
    needed,
    neighbours,
)
from poise.curate.minhash import Block
from poise.errors import DataError, ResourceError


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


class Counting:
    """Encodes a text as (its length, 1), and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.asked.append(texts)
        return np.array([[len(text), 1] for text in texts], np.float32)


def test_equal_texts_are_encoded_once_and_the_longest_first() -> None:
    encode = Counting()
    vectors, which = embedded(["bb", "a", "bb", "cccc"], Encoder(encode, {}))
    assert encode.asked == [["cccc", "bb", "a"]]
    assert vectors.tolist() == [[2, 1], [1, 1], [4, 1]] and which.tolist() == [0, 1, 0, 2]


def test_stored_vectors_are_not_made_again(tmp_path: Path) -> None:
    encode = Counting()
    encoder = Encoder(encode, {"model": "m", "revision": "1"})
    embedded(["a", "bb"], encoder, tmp_path)
    vectors, which = embedded(["ccc", "bb", "a", "bb"], encoder, tmp_path)
    assert encode.asked == [["bb", "a"], ["ccc"]]
    assert vectors[which].tolist() == [[3, 1], [2, 1], [1, 1], [2, 1]]
    assert embedded([], encoder, tmp_path)[0].shape[0] == 0


def test_another_revision_has_vectors_of_its_own(tmp_path: Path) -> None:
    encode = Counting()
    for revision in "12":
        embedded(["a"], Encoder(encode, {"model": "m", "revision": revision}), tmp_path)
    assert encode.asked == [["a"], ["a"]]
    assert len(list(tmp_path.glob("*/space.json"))) == 2


def test_a_batch_that_was_not_written_whole_is_made_again(tmp_path: Path) -> None:
    encode = Counting()
    encoder = Encoder(encode, {"model": "m"})
    embedded(["a"], encoder, tmp_path)
    (whole,) = tmp_path.glob("*/*.npz")
    whole.with_suffix(".123").write_bytes(whole.read_bytes()[:40])
    whole.unlink()
    embedded(["a"], encoder, tmp_path)
    assert encode.asked == [["a"], ["a"]]


def test_an_encoder_of_int8_vectors_is_refused() -> None:
    with pytest.raises(DataError, match="int8"):
        embedded(["a"], Encoder(lambda texts: np.ones((len(texts), 2), np.int8), {}))  # pyright: ignore


def letters(texts: list[str]) -> np.ndarray:
    """Count letters: digits do not move the vector, as they hardly move a sentence encoder's."""
    return np.array([[text.count(letter) for letter in "abcdef"] for text in texts], np.float32)


def test_calibration_shows_that_edits_move_a_vector_and_numbers_do_not() -> None:
    chance = np.random.default_rng(0)
    texts = [" ".join(chance.choice(list("abcdef"), 100)) + f" {number}" for number in range(50)] + ["abc"]
    found = {each.edit: each for each in calibrated(letters, texts, 0.999)}
    assert found["every number"] == Calibration("every number", 50, pytest.approx(1.0), 1.0)
    medians = [found[f"{percent} % of words"].median for percent in (2, 5, 10, 20)]
    assert medians == sorted(medians, reverse=True) and medians[0] > 0.999 > medians[-1]
    assert found["20 % of words"].texts == 51 and found["20 % of words"].share < 0.5
    assert calibrated(letters, texts, 0.999) == list(found.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a well-known fact, and so on.", []),
        ("He paid $1,000.50 at 12:30.", ["$", "1,000.50", "12:30"]),
        ("3 - 4 is not 3 + 4", ["+", "-", "3", "3", "4", "4"]),
        ("call add(x) or my_name or camelCase", ["add", "camelCase", "my_name"]),
        ("if a != b -> c", ["!=", "->"]),
        ("run `ls -l` now", ["`ls -l`"]),
    ],
)
def test_numbers_operators_and_code_are_marks(text: str, expected: list[str]) -> None:
    assert marks(text) == expected


def test_texts_with_other_numbers_or_code_differ() -> None:
    assert differ_in_marks("Tom has 3 apples and 5 pears.", "Tom has 4 apples and 5 pears.")
    assert differ_in_marks("Explain add(x).", "Explain sub(x).")
    assert not differ_in_marks("Tom has 3 apples and 5 pears.", "Tom owns 5 pears and 3 apples!")


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(ResourceError, match=re.escape("pip install 'poise[embed]'")):
        needed("poise_no_such_package")
