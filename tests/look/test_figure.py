"""The drawing of a histogram."""

import re
from typing import Any

import pytest

from poise.look.figure import figure


@pytest.fixture
def found() -> dict[str, Any]:
    """Three bars of five, the middle one empty."""
    edges = {"edges": [0, 5, 10, 15], "counts": [1, 0, 16], "longer": 2}
    return {**edges, "rows": 19, "median": 12, "p95": 14, "longest": 99, "cut": None}


def labels(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_drawing_says_what_it_shows(found) -> None:
    drawn = figure("combined", "tokens", found)
    told = "Histogram of tokens, combined, of 19 rows: median 12, 95 % up to 14, longest 99."
    assert drawn.svg.startswith(f'<svg role="img" aria-label="{told}"')
    assert drawn.note == "median 12, 95 % up to 14, longest 99. 2 of 19 rows are longer."
    assert labels(drawn.svg) == [*"02468", "10", "12", "14", "tokens", "0", "5", "10", "15", "20", "rows"]


def test_a_dashed_line_marks_the_cut(found) -> None:
    assert "dash" not in figure("combined", "tokens", found).svg
    svg = figure("combined", "tokens", found | {"cut": 11}).svg
    assert "stroke-dasharray" in svg and "longest 99. A dashed line marks the cut at 11." in svg


def test_a_bar_of_one_number_stands_over_it(found) -> None:
    """Two bars of 1 share 250 pixels: 125 each, the labels 0 and 1 in their middles."""
    svg = figure("turns", "turns", found | {"edges": [0, 1, 2], "counts": [3, 3]}).svg
    assert re.findall(r"M([\d.]+),0h([\d.]+)v", svg)[-2:] == [("0", "125"), ("125", "125")]
    assert [float(x) for x in re.findall(r"translate\(([\d.]+),\d+\)[^>]*>[01]</text>", svg)][:2] == [62.5, 187.5]
