"""A win rate with the effect of length taken out (Dubois et al. 2024, arXiv 2404.04475).

A logistic model without intercept explains the preference for a model's answer:

    logit p = length · tanh((baseline_chars - model_chars) / deviation) + difficulty · difficulty_i + quality

The controlled rate is the mean of p at equal lengths. AlpacaEval's own rate needs its calibration table: a difficulty
for each of its 805 instructions, and the baseline's deliberately wordy and terse answers as further rows of small
weight, for which `quality` is 0. Any other evaluation set has neither: then the difficulty is left out, and what comes
out is a *length-adjusted* rate, not AlpacaEval's.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poise.errors import DataError
from poise.evaluate.statistics import LEVEL, Estimate

GAMED_WEIGHT = 0.2 / 2
"""Of each row of the two gamed baselines, against 1 of the model's own (alpaca_eval 0.6.6, length_controlled_v1)."""
RIDGE = 1e-3
"""Keeps a perfectly separable fit finite; on 805 rows it moves the rate by less than 0.01 points."""
STEPS, CLOSE = 50, 1e-9
RESAMPLES = 500


@dataclass(frozen=True)
class Judged:
    """Judged pairs of one model, array by array, each (items,)."""

    preference: Any
    """For the model's answer, 0 to 1."""
    baseline_chars: Any
    model_chars: Any


@dataclass(frozen=True)
class Calibration:
    """AlpacaEval's `df_gamed.csv`: rows of the two gamed baselines; `difficulty` is by instruction."""

    preference: Any
    length: Any
    """The standardised difference of lengths."""
    row_difficulty: Any
    difficulty: dict[int, float]


def read_calibration(path: Path) -> Calibration:
    """Read the table that AlpacaEval keeps on the Hub as `df_gamed.csv` of tatsu-lab/alpaca_eval."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        difficulty = [float(row["instruction_difficulty"]) for row in rows]
        return Calibration(
            np.array([float(row["preference"]) for row in rows]),
            np.array([float(row["std_delta_len"]) for row in rows]),
            np.array(difficulty),
            {int(float(row["index"])): value for row, value in reversed(list(zip(rows, difficulty, strict=True)))},
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} is no calibration table ({error!r})\n"
            "    why:    it has the columns preference, std_delta_len, instruction_difficulty and index\n"
            "    to do:  take df_gamed.csv of the dataset tatsu-lab/alpaca_eval on the Hub"
        ) from None


def length_controlled(
    judged: Judged, instructions: Sequence[int], calibration: Calibration, *, resamples: int = RESAMPLES
) -> Estimate:
    """Return AlpacaEval's length-controlled win rate, 0 to 1; the interval is of fits to resampled instructions.

    `instructions` says which of the 805 each pair is: difficulties are joined by it, never by position.
    """
    difficulty = np.array([calibration.difficulty[index] for index in instructions])
    kept = np.isfinite(calibration.preference)
    gamed = np.stack(
        [np.tanh(calibration.length[kept]), calibration.row_difficulty[kept], np.zeros(kept.sum())], axis=1
    )

    def rate(drawn: Any, start: Any) -> tuple[float, Any]:
        own = np.stack([_length(judged, drawn), difficulty[drawn], np.ones(len(drawn))], axis=1)
        weights = fit(
            np.concatenate([gamed, own]),
            np.concatenate([calibration.preference[kept], judged.preference[drawn]]),
            np.concatenate([np.full(len(gamed), GAMED_WEIGHT), np.ones(len(own))]),
            start,
        )
        return float(_logistic(own[:, 1:] @ weights[1:]).mean()), weights

    return _estimate(judged, rate, 3, resamples)


def length_adjusted(judged: Judged, *, resamples: int = RESAMPLES) -> Estimate:
    """Return the win rate at equal lengths by length alone, for any evaluation set; it is not AlpacaEval's."""

    def rate(drawn: Any, start: Any) -> tuple[float, Any]:
        own = np.stack([_length(judged, drawn), np.ones(len(drawn))], axis=1)
        weights = fit(own, judged.preference[drawn], np.ones(len(own)), start)
        return float(_logistic(weights[1])), weights

    return _estimate(judged, rate, 2, resamples)


def fit(features: Any, preference: Any, weights: Any, start: Any) -> Any:
    """Fit a logistic model to soft labels by Newton's method; `features` is (rows, parameters)."""
    found = start.copy()
    ridge = np.eye(features.shape[1]) * RIDGE
    for _ in range(STEPS):
        expected = _logistic(features @ found)
        slope = features.T @ (weights * (preference - expected)) - RIDGE * found
        curvature = (features * (weights * np.maximum(expected * (1 - expected), 1e-9))[:, None]).T @ features + ridge
        step = np.linalg.solve(curvature, slope)
        size = np.abs(step).max()
        found = found + step * min(1.0, 2.0 / max(size, 1e-12))
        if size < CLOSE:
            break
    return found


def _estimate(judged: Judged, rate: Any, parameters: int, resamples: int) -> Estimate:
    n = len(judged.preference)
    value, weights = rate(np.arange(n), np.zeros(parameters))
    random = np.random.default_rng(0)
    resampled = np.array([rate(random.integers(0, n, n), weights)[0] for _ in range(resamples)])
    low, high = _interval(value, resampled, n)
    return Estimate(value, float(np.std(resampled, ddof=1)), low, high, n)


def _interval(value: float, resampled: Any, n: int) -> tuple[float, float]:
    """Spread the resampled rates' deviation on the logit scale, where they are near normal, by Student's t.

    Fits are dear, and percentiles of a few hundred are rough: those of 200 covered 93 % in 500 trials.
    """
    from scipy.special import expit, logit
    from scipy.stats import t

    reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) * float(np.std(logit(resampled), ddof=1)) * (n / (n - 1)) ** 0.5
    return float(expit(logit(value) - reach)), float(expit(logit(value) + reach))


def _length(judged: Judged, drawn: Any) -> Any:
    delta = (judged.baseline_chars - judged.model_chars)[drawn]
    deviation = delta.std(ddof=1)
    return np.tanh(delta / deviation) if deviation > 0 else np.zeros(len(drawn))


def _logistic(value: Any) -> Any:
    return np.exp(-np.logaddexp(0, -value))
