"""Statistics of an evaluation: intervals that cover, paired tests, and the smallest difference a sample could show.

An *item* is one question with one number. Items of one *cluster* are not independent - both turns of a dialogue, both
orders of a pair, all repeats - and are drawn together (Miller 2024, arXiv 2411.00640). Randomness has a fixed seed, so
that the same numbers always give the same interval.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000
POWER = 0.8
"""The usual chance, of a true difference of the smallest detectable size, to be found."""
AT_ONCE = 1 << 22
"""Draws held in memory together."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error and its 95 % interval."""

    value: float
    standard_error: float
    low: float
    high: float
    n: int
    """Items."""

    def scaled(self, factor: float) -> "Estimate":
        """Return it in another unit: 100 makes percent of shares."""
        return Estimate(
            self.value * factor, self.standard_error * factor, self.low * factor, self.high * factor, self.n
        )


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Return Wilson's (1927) interval of a share; with part marks the formula is taken as it stands."""
    from scipy.stats import norm

    z = float(norm.ppf((1 + LEVEL) / 2))
    share = successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # 0 of n is exactly 0


def share(successes: float, n: int) -> Estimate:
    """Estimate a share of `n` independent items."""
    low, high = wilson(successes, n)
    value = successes / n
    return Estimate(value, (value * (1 - value) / n) ** 0.5, low, high, n)


def win_rate(scores: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Estimate a share of wins in which a tie counts half.

    Wilson's interval, with the variance that ties leave and of as many items as the clusters are worth (Korn and
    Graubard 1998); without ties and with one item a cluster it is Wilson's own.
    """
    from scipy.stats import norm, t

    n, value = len(scores), sum(scores) / len(scores)
    drawn = n if clusters is None else len(set(clusters))
    worth = float(n) if drawn == n else _worth(scores, clusters)
    z = float(norm.ppf((1 + LEVEL) / 2) if drawn == n else t.ppf((1 + LEVEL) / 2, max(1, drawn - 1)))
    pull = z**2 / worth
    ties = sum(score == 0.5 for score in scores) / (n + 2)  # fewer than seen: if all were ties, the next need not be
    middle = (value + pull / 2) / (1 + pull)
    half = max(0.0, middle**2 - (value**2 + pull * ties / 4) / (1 + pull)) ** 0.5
    low, high = max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half))
    return Estimate(value, standard_error(scores, clusters), low, high, n)


def _worth(scores: Sequence[float], clusters: Sequence[Hashable] | None) -> float:
    """Return how many independent items clustered ones are worth: those whose mean is as uncertain."""
    alone, together = standard_error(scores), standard_error(scores, clusters)
    drawn = len(set(clusters or ()))
    if not alone > 0 or not together > 0:  # all are equal, which says nothing of how much clusters share
        return float(drawn)
    return max(1.0, len(scores) * (alone / together) ** 2)


def standard_error(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float:
    """Return the standard error of the mean; clustered where clusters are named. NaN where one cluster is all there is.

    Without clusters it is the sample deviation (n - 1) over the root of n, as AlpacaEval prints it.
    """
    sums, counts = _cluster_sums(values, clusters)
    drawn = len(sums)
    if drawn < 2:
        return float("nan")
    residuals = sums - counts * sums.sum() / counts.sum()
    return float((drawn / (drawn - 1) * (residuals**2).sum()) ** 0.5 / counts.sum())


def mean(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate a mean by resampling clusters, a mean of zeros and ones of independent items by Wilson's formula.

    The bootstrap's percentiles are moved outwards to what Student's t asks of so few clusters (Hesterberg 2014,
    arXiv 1411.5279, section 5.4): plain percentiles of ten items cover 90 % where these cover 95 %.
    """
    if clusters is None and all(value in (0, 1) for value in values):
        return share(sum(values), len(values))
    sums, counts = _cluster_sums(values, clusters)
    low, high = _bootstrap(sums, counts, resamples, seed)
    return Estimate(float(sums.sum() / counts.sum()), standard_error(values, clusters), low, high, len(values))


def difference(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate `after - before` over the same items, by the paired bootstrap; independent zeros and ones by Newcombe.

    A bootstrap of items of which none changed has no width, however few they are.
    """
    gains = [now - was for was, now in zip(before, after, strict=True)]
    sums, counts = _cluster_sums(gains, clusters)
    if len(sums) == len(gains) and {*before, *after} <= {0, 1}:
        low, high = newcombe(before, after)
    else:
        low, high = _bootstrap(sums, counts, resamples, seed)
    return Estimate(float(sums.sum() / counts.sum()), standard_error(gains, clusters), low, high, len(gains))


def newcombe(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Return Newcombe's (1998, method 10) interval of the difference of paired shares: Wilson's of each, correlated."""
    n, was, now = len(before), sum(before), sum(after)
    both = sum(one * other for one, other in zip(before, after, strict=True))
    product = both * (n - was - now + both) - (was - both) * (now - both)
    margins = was * (n - was) * now * (n - now)
    phi = (max(product - n / 2, 0) if product > 0 else product) / margins**0.5 if margins else 0.0

    def reach(falling: float, rising: float) -> float:
        down, up = falling / n - wilson(falling, n)[0], wilson(rising, n)[1] - rising / n
        return float(max(0.0, down**2 - 2 * phi * down * up + up**2) ** 0.5)

    return (now - was) / n - reach(now, was), (now - was) / n + reach(was, now)


def mcnemar(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the exact two-sided p of McNemar's (1947) test: a fair coin over the items that changed."""
    from scipy.stats import binomtest

    worse = sum(now < was for was, now in zip(before, after, strict=True))
    better = sum(now > was for was, now in zip(before, after, strict=True))
    return float(binomtest(worse, worse + better).pvalue) if worse + better else 1.0


def sign_flip(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Return the two-sided p of a paired permutation test: either model could have given either answer of a cluster."""
    sums, _ = _cluster_sums([now - was for was, now in zip(before, after, strict=True)], clusters)
    random = np.random.default_rng(seed)
    seen, reached = abs(sums.sum()), 0
    for size in _chunks(resamples, len(sums)):
        signs = random.integers(0, 2, (size, len(sums))) * 2 - 1
        reached += int((abs(signs @ sums) >= seen - 1e-9).sum())
    return (1 + reached) / (1 + resamples)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values adjusted for having looked at all of them (Holm 1979), in their order."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    adjusted, floor = [0.0] * len(ps), 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = floor
    return adjusted


def smallest_detectable(error: float) -> float:
    """Return the true difference that a paired sample of this standard error finds with 80 % chance at p < 0.05."""
    from scipy.stats import norm

    return float((norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)) * error)


def worst_case(values: Sequence[float], missing: int, lowest: float, highest: float) -> tuple[float, float]:
    """Return what the mean could be at least and at most, had the missing items been the lowest or the highest."""
    n, total = len(values) + missing, sum(values)
    return (total + missing * lowest) / n, (total + missing * highest) / n


def _percentiles(statistics: Any, clusters: int) -> tuple[float, float]:
    """Return the 95 % interval of resampled statistics, widened to what Student's t asks of so few clusters."""
    from scipy.stats import norm, t

    if clusters < 2:
        return float("nan"), float("nan")
    reach = (clusters / (clusters - 1)) ** 0.5 * float(t.ppf((1 + LEVEL) / 2, clusters - 1))
    low, high = np.quantile(statistics, [float(norm.cdf(-reach)), float(norm.cdf(reach))])
    return float(low), float(high)


def _bootstrap(sums: Any, counts: Any, resamples: int, seed: int) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    means: list[Any] = []
    for size in _chunks(resamples, len(sums)):
        drawn = random.integers(0, len(sums), (size, len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return _percentiles(np.concatenate(means), len(sums))


def _chunks(resamples: int, width: int) -> list[int]:
    """Cut resamples into runs that fit in memory."""
    size = max(1, AT_ONCE // max(1, width))
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _cluster_sums(values: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[Any, Any]:
    """Return the sum and the count of every cluster; without clusters, every item is one."""
    numbers = np.asarray(values, dtype=float)
    if clusters is None:
        return numbers, np.ones(len(numbers))
    place: dict[Hashable, int] = {}
    index = [place.setdefault(cluster, len(place)) for cluster in clusters]
    return np.bincount(index, weights=numbers), np.bincount(index).astype(float)
