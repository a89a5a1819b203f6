"""Ratios, means and asked figures from cells whose numbers are written here."""

from typing import Any

import pytest

from preference.table import as_markdown, checked, figures, geometric_mean


def a_line(data: str, arm: str, seconds: float, losses: tuple[float, ...] = (0.5,), **more: Any) -> dict[str, Any]:
    result = {
        "seconds": seconds, "step_seconds": seconds / 2, "reference_seconds": None, "tokens": 10,
        "losses": list(losses), "peak_bytes": 100, "growth_bytes": 50, "trained_tokens_per_second": 1.0,
        "processed_tokens_per_second": 2.0, "share": 0.25, **more,
    }  # fmt: skip
    cell = {"data": data, "method": "dpo", "tuning": "lora", "dtype": "float32", "arm": arm}
    return {"cell": cell, "facts": {"rows": 8, "parameters": 1e6}, "result": result}


def test_a_ratio_is_the_rival_over_poise() -> None:
    found = figures([a_line("tldr", "poise", 2.0), a_line("tldr", "trl", 6.0, peak_bytes=150)])
    assert found["dpo lora float32 tldr: trl / poise, wall"] == 3.0
    assert found["dpo lora float32 tldr: trl / poise, peak memory"] == 1.5
    assert not any("trl-fastest" in name for name in found)


def test_the_mean_over_data_is_geometric() -> None:
    lines = [a_line(data, arm, seconds) for data, rival in (("tldr", 2.0), ("helpsteer", 8.0)) for arm, seconds in
             (("poise", 1.0), ("trl", rival))]  # fmt: skip
    assert figures(lines)["dpo lora float32, mean: trl / poise, wall"] == pytest.approx(4.0)
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_the_fastest_of_trl_is_compared_too() -> None:
    lines = [a_line("tldr", "poise", 1.0), a_line("tldr", "trl", 5.0), a_line("tldr", "trl-best", 4.0)]
    assert figures(lines)["dpo lora float32 tldr: trl-fastest / poise, wall"] == 4.0


def test_losses_are_compared_over_ten_steps() -> None:
    ours = tuple([0.0] * 11)
    lines = [a_line("tldr", "poise", 1.0, ours), a_line("tldr", "trl", 1.0, (0.0, 0.25, *[0.0] * 8, 9.0))]
    assert figures(lines)["dpo lora float32 tldr: trl - poise, loss"] == 0.25


def test_without_poise_there_is_no_ratio() -> None:
    assert figures([a_line("tldr", "trl", 5.0)]) == {}


def test_an_asked_figure_is_told_beside_what_was_measured() -> None:
    found = {"wall": 3.5}
    assert checked(["wall>=3", "wall <= 3", "other>=1", "wall"], found) == [
        "wall: asked at least 3, measured 3.5: yes",
        "wall: asked at most 3, measured 3.5: no",
        "other: asked at least 1, not measured",
        "wall: not understood, expected NAME>=FIGURE or NAME<=FIGURE",
    ]


def test_a_cell_that_did_not_run_is_told_with_its_reason() -> None:
    failed = a_line("tldr", "trl", 1.0)
    del failed["result"]
    text = as_markdown([a_line("tldr", "poise", 1.0), failed | {"failed": "ModelError: no kernel"}])
    assert "| trl | failed: ModelError: no kernel |" in text
    assert "trl / poise" not in text
