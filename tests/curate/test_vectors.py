"""Sentence vectors: each text encoded once, and stored by the space it is in."""

from pathlib import Path

import numpy as np
import pytest

from poise.curate.encoder import Encoder
from poise.curate.vectors import embedded
from poise.errors import DataError


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
