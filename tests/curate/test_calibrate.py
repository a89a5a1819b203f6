"""What a threshold lets through, on edits that are known."""

import numpy as np
import pytest

from poise.curate.calibrate import Calibration, calibrated


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
