"""Which bars lengths fall into."""

import numpy as np

from poise.look.histogram import histogram


def test_nearly_all_rows_are_drawn_and_the_longest_told() -> None:
    """Of 1,000 rows five are longer than the 99.5 % of 103 and less, which 21 bars of 5 hold."""
    lengths = np.array([100] * 994 + [103] + [5000] * 5)
    assert histogram(lengths) == {
        "rows": 1000,
        "median": 100,
        "p95": 100,
        "longest": 5000,
        "edges": list(range(0, 110, 5)),
        "counts": [0] * 20 + [995],
        "longer": 5,
        "cut": None,
    }


def test_the_cut_is_within_the_bars() -> None:
    """Up to 64 makes 65 lengths, which are 1.6 to a bar and so 2."""
    found = histogram(np.array([2, 3]), cut=64)
    assert found["edges"] == list(range(0, 67, 2))
    assert found["counts"] == [0, 2, *[0] * 31]


def test_one_length_is_one_bar() -> None:
    found = histogram(np.array([0]))
    assert (found["edges"], found["counts"], found["longer"]) == ([0, 1], [1], 0)
