"""Ratings from votes: Bradley and Terry's (1952) model, P(a beats b) = 1 / (1 + 10^((rating b - rating a) / 400)).

Maximum likelihood with half a virtual tie for every two models, without which ten wins of ten would rate them
infinitely apart. Ties are half a win each. Intervals are of the profile likelihood, widened or narrowed to the spread
of the votes: ties make it smaller, votes on one prompt - a cluster - make it larger. 0 is the mean of the models.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from poise.evaluate.statistics import LEVEL, Estimate

POINTS = 400 / np.log(10)
"""Of a rating, for a log-odds of 1."""
VIRTUAL_TIES = 0.5
STEPS, CLOSE = 100, 1e-10
LEAST_SHARED = 0.5
"""Votes on one prompt may balance each other, in few prompts by chance to the point of certainty."""
SHORT_OF_ALL = 1 - 1e-6
"""A likelihood that is pulled by all that is left to win, or to lose, has no maximum."""


@dataclass(frozen=True)
class Vote:
    """What one comparison of two models gave the first of them: 1, 0.5 or 0."""

    first: str
    second: str
    score: float
    cluster: Hashable


def ratings(votes: Sequence[Vote]) -> dict[str, Estimate]:
    """Rate every model that was voted on, the best first."""
    models = sorted({model for vote in votes for model in (vote.first, vote.second)})
    place = {model: index for index, model in enumerate(models)}
    fit = _Fit(len(models), [(place[vote.first], place[vote.second], vote.score) for vote in votes])
    theta = fit.maximum(np.zeros(len(models)))
    spreads = _spreads(fit, theta, [vote.cluster for vote in votes])
    rated: dict[str, Estimate] = {}
    for model, index in sorted(place.items(), key=lambda pair: -theta[pair[1]]):
        low, high = fit.profile(index, theta, spreads[index])
        error = float(spreads[index] * fit.covariance(theta)[index, index]) ** 0.5
        n = sum(model in (vote.first, vote.second) for vote in votes)
        rated[model] = Estimate(float(theta[index]), error, low, high, n).scaled(float(POINTS))
    return rated


def parts(votes: Sequence[Vote]) -> list[set[str]]:
    """Return the sets of models that votes link; between two of them nothing is known."""
    linked: list[set[str]] = []
    for vote in votes:
        touched = [part for part in linked if vote.first in part or vote.second in part]
        linked = [part for part in linked if part not in touched]
        linked.append({vote.first, vote.second}.union(*touched))
    return linked


class _Fit:
    """The likelihood of votes under strengths (models,) in log-odds that add up to zero."""

    def __init__(self, models: int, votes: Sequence[tuple[int, int, float]]) -> None:
        self.models = models
        self.first, self.second = (np.array([vote[side] for vote in votes]) for side in (0, 1))
        self.scores = np.array([vote[2] for vote in votes], dtype=float)
        pairs = list(combinations(range(models), 2))
        counts, wins = np.zeros((models, models)), np.zeros((models, models))
        np.add.at(counts, (self.first, self.second), 1.0)
        np.add.at(wins, (self.first, self.second), self.scores)
        self._a, self._b = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
        self._counts = (counts + counts.T)[self._a, self._b] + VIRTUAL_TIES
        won = wins[self._a, self._b] + (counts - wins)[self._b, self._a]
        self._wins = won + VIRTUAL_TIES / 2

    def likelihood(self, theta: Any) -> float:
        """Return the log-likelihood, virtual ties included."""
        gap = theta[self._a] - theta[self._b]
        return float(-(self._wins * np.logaddexp(0, -gap) + (self._counts - self._wins) * np.logaddexp(0, gap)).sum())

    def maximum(self, start: Any, tilt: Any = 0.0) -> Any:
        """Return the strengths of the highest likelihood plus `tilt @ strengths`, by Newton's method."""
        theta = start
        for _ in range(STEPS):
            shares = _sigmoid(theta[self._a] - theta[self._b])
            step = self._inverse(shares) @ (self._slope(self._wins - self._counts * shares) + tilt)
            step *= min(1.0, 1.0 / max(1e-300, float(np.abs(step).max())))
            theta = theta + step
            if np.abs(step).max() < CLOSE:
                break
        return theta

    def covariance(self, theta: Any) -> Any:
        """Return the covariance (models, models) of the strengths, were votes independent and without ties."""
        return self._inverse(_sigmoid(theta[self._a] - theta[self._b]))

    def profile(self, index: int, theta: Any, spread: float) -> tuple[float, float]:
        """Return the strengths of one model that the likelihood does not rule out, the others as they fit best."""
        from scipy.optimize import brentq
        from scipy.stats import chi2

        allowed = spread * float(chi2.ppf(LEVEL, 1)) / 2
        highest = self.likelihood(theta)
        won = float(self._wins[self._a == index].sum() + (self._counts - self._wins)[self._b == index].sum())
        played = float(self._counts[(self._a == index) | (self._b == index)].sum())
        contrast = np.full(self.models, -1 / (self.models - 1))
        contrast[index] = 1.0

        def at(pull: float) -> Any:
            return self.maximum(theta, pull * contrast)

        def beyond(pull: float) -> float:
            return highest - self.likelihood(at(pull)) - allowed

        ends: list[float] = []
        for left in (-won, played - won):
            most = left * SHORT_OF_ALL
            root: Any = brentq(beyond, 0.0, most, xtol=1e-6, rtol=np.float64(1e-6)) if beyond(most) > 0 else most
            ends.append(float(at(float(root))[index]))
        return ends[0], ends[1]

    def _slope(self, excess: Any) -> Any:
        slope = np.zeros(self.models)
        np.add.at(slope, self._a, excess)
        np.add.at(slope, self._b, -excess)
        return slope

    def _inverse(self, shares: Any) -> Any:
        information = np.zeros((self.models, self.models))
        weight = self._counts * shares * (1 - shares) + 1e-12
        for place, sign in (((self._a, self._a), 1), ((self._b, self._b), 1), ((self._a, self._b), -1),
                            ((self._b, self._a), -1)):  # fmt: skip
            np.add.at(information, place, sign * weight)
        mean = np.full_like(information, 1 / self.models)  # of which the likelihood says nothing
        return np.linalg.inv(information + mean) - mean


def _spreads(fit: _Fit, theta: Any, clusters: Sequence[Hashable]) -> Any:
    """Return by how much each strength varies more than in independent votes without ties, (models,)."""
    shares = _sigmoid(theta[fit.first] - theta[fit.second])
    ties = float((fit.scores == 0.5).sum()) / (len(fit.scores) + 4)
    of_ties = max(0.1, 1 - ties / 4 / float((shares * (1 - shares)).mean()))
    place: dict[Hashable, int] = {}
    index = np.array([place.setdefault(cluster, len(place)) for cluster in clusters])
    pulls = np.zeros((len(fit.scores), fit.models))
    rows, residuals = np.arange(len(fit.scores)), fit.scores - shares
    pulls[rows, fit.first], pulls[rows, fit.second] = residuals, -residuals
    moved = pulls @ fit.covariance(theta)
    together = np.zeros((len(place), fit.models))
    np.add.at(together, index, moved)
    alone = (moved**2).sum(0)
    of_clusters = np.where(alone > 0, (together**2).sum(0) / np.where(alone > 0, alone, 1), 1.0)
    return of_ties * np.maximum(LEAST_SHARED, of_clusters) * _few(len(place), len(clusters))


def _few(drawn: int, votes: int) -> float:
    """Widen to what Student's t asks of few clusters, where votes share them."""
    from scipy.stats import norm, t

    if drawn == votes:
        return 1.0
    upper = (1 + LEVEL) / 2
    return float((t.ppf(upper, max(1, drawn - 1)) / norm.ppf(upper)) ** 2)


def _sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))
