"""Forecast beside fact: what a run was expected to take, what it took, and how far the one was from the other."""

from dataclasses import dataclass
from typing import Any

from poise.report.stage import Stage
from poise.report.wording import duration, is_number, size


@dataclass(frozen=True)
class ForecastLine:
    """One quantity of a run; every value is written out."""

    name: str
    forecast: str
    fact: str
    """`–` where the run did not get so far."""
    ratio: str
    """Forecast over fact: `1.08`."""


@dataclass(frozen=True)
class Comparison:
    """A run's forecast and what came of it."""

    by: str
    """How the forecast was made."""
    lines: list[ForecastLine]


def compare_forecast(stage: Stage) -> Comparison | None:
    """Lay a run's forecast beside its time and memory; None where it has none."""
    forecast = stage.manifest.get("forecast")
    if not isinstance(forecast, dict):
        return None
    memory = [value for _, value in stage.series("peak_memory_bytes")]
    lines = [
        _line("time", forecast.get("seconds"), stage.manifest.get("seconds"), duration),
        _line("peak memory", forecast.get("peak_memory_bytes"), max(memory, default=None), size),
    ]
    known = [line for line in lines if line is not None]
    return Comparison(str(forecast.get("by") or "not said how"), known) if known else None


def _line(name: str, forecast: Any, fact: Any, write: Any) -> ForecastLine | None:
    if not is_number(forecast):
        return None
    ratio = f"{forecast / fact:.2f}" if is_number(fact) and fact > 0 else "–"
    return ForecastLine(name, write(forecast), write(fact), ratio)
