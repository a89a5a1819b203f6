"""Lengths counted in equal bars from 0, of which nearly all rows are drawn and the longest are told.

{"edges": [0, 5, 10, 15], "counts": [1, 0, 16], "longer": 2, "median": 12, "p95": 14, "longest": 99, "cut": 11, …}
"""

from typing import Any

import numpy as np

BARS, SHARE_DRAWN = 40, 0.995
"""At most so many bars; rows longer than this share of all are counted together as `longer`."""


def histogram(lengths: np.ndarray, cut: int | None = None) -> dict[str, Any]:
    """Count (rows,) lengths in bars so wide that nearly all rows fit, and the cut, above which rows were dropped."""
    usual, median, high = np.quantile(lengths, (SHARE_DRAWN, 0.5, 0.95), method="inverted_cdf").tolist()
    width = _round_up((max(usual, cut or 0) + 1) / BARS)
    bars = max(usual, cut or 0) // width + 1
    counts = np.bincount(np.minimum(lengths // width, bars), minlength=bars + 1).tolist()
    return {
        "rows": len(lengths),
        "median": median,
        "p95": high,
        "longest": int(lengths.max()),
        "edges": [width * number for number in range(bars + 1)],
        "counts": counts[:-1],
        "longer": counts[-1],
        "cut": cut,
    }


def _round_up(width: float) -> int:
    """Return the next of 1, 2, 5, 10, 20, 50, …"""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= width:
                return digit * power
        power *= 10
