"""Forecast beside fact: the numbers of a manifest, as the report prints them."""

from pathlib import Path
from typing import Any

import pytest

from poise.report.forecast import compare_forecast
from poise.report.report import build_report
from poise.report.stage import Stage

FORECAST = {"seconds": 90.0, "peak_memory_bytes": 3 * 2**29, "by": "poise plan --probe", "parts": {"training": 80.0}}
STEPS = [{"step": 1, "peak_memory_bytes": 2**29}, {"step": 2, "peak_memory_bytes": 2**30}, {"step": 3, "eval_loss": 1}]


def test_time_and_memory_stand_beside_what_the_run_took() -> None:
    """90 s of 75 s is 1.20; 1.5 GiB of the highest logged 1 GiB is 1.50."""
    compared = compare_forecast(Stage({"forecast": FORECAST, "seconds": 75.0}, STEPS))
    assert compared is not None
    assert compared.by == "poise plan --probe"
    assert [(line.name, line.forecast, line.fact, line.ratio) for line in compared.lines] == [
        ("time", "1 min 30 s", "1 min 15 s", "1.20"),
        ("peak memory", "1.5 GiB", "1 GiB", "1.50"),
    ]


@pytest.mark.parametrize("forecast", [None, [], "soon", {}, {"seconds": "long", "peak_memory_bytes": None}])
def test_no_forecast_is_no_table(forecast: Any) -> None:
    assert compare_forecast(Stage({"forecast": forecast, "seconds": 75.0}, STEPS)) is None


@pytest.mark.parametrize("seconds", [None, 0, float("nan")])
def test_a_run_without_its_time_has_no_ratio(seconds: Any) -> None:
    compared = compare_forecast(Stage({"forecast": {"seconds": 90.0}, "seconds": seconds}))
    assert compared is not None
    assert [line.ratio for line in compared.lines] == ["–"]


def test_the_page_shows_both(write_run: Any, tmp_path: Path) -> None:
    run = write_run("run", Stage({"verb": "sft", "status": "done", "forecast": FORECAST, "seconds": 75.0}, STEPS))
    build_report([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Forecast by poise plan --probe" in page
    assert '<td class="right">1 min 30 s</td><td class="right">1 min 15 s</td><td class="right">1.20</td>' in page


def test_a_forecast_is_escaped(write_run: Any, tmp_path: Path) -> None:
    run = write_run("run", Stage({"verb": "sft", "forecast": FORECAST | {"by": "<script>"}}, STEPS))
    build_report([run], tmp_path / "report.html")
    assert "<script>" not in (tmp_path / "report.html").read_text(encoding="utf-8")
