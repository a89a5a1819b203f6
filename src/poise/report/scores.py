"""Scores: how many of n questions a model answers right, how sure that is, and whether two models differ.

Intervals are Wilson's (1927); differences are tested exactly and two-sided: on paired answers with McNemar's test (a
binomial on the answers that changed), without pairs with Fisher's. Differences have Newcombe's (1998) intervals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from poise.report.wording import is_number

CLEAR_POINTS = 10.0
CLEAR_P = 0.05


@dataclass(frozen=True)
class Score:
    """`right` of `n` questions; part marks may add up to a fraction."""

    right: float
    n: int

    @property
    def share(self) -> float:
        """The fraction right, 0 to 1."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        from scipy.stats import binomtest

        low, high = binomtest(round(self.right), self.n).proportion_ci(0.95, "wilson")
        return float(low), float(high)


@dataclass(frozen=True)
class Change:
    """One set of questions under two models."""

    name: str
    start: str
    end: str
    was: Score
    now: Score
    p: float
    pairs: tuple[int, int] | None
    """How many answers got worse and better, where both models answered every question."""

    @property
    def points(self) -> float:
        """The difference in percentage points."""
        return 100 * (self.now.share - self.was.share)

    @property
    def interval(self) -> tuple[float, float]:
        """Newcombe's (1998, method 10) 95 % interval of the difference in points, without pairs his method for two."""
        half = self._reach(self.now, self.was), self._reach(self.was, self.now)
        difference = self.now.share - self.was.share
        return 100 * (difference - half[0]), 100 * (difference + half[1])

    def _reach(self, falling: Score, rising: Score) -> float:
        """How far the difference could be off where the share `falling` is lower and `rising` higher than seen."""
        down, up = falling.share - falling.interval[0], rising.interval[1] - rising.share
        return max(0.0, down**2 - 2 * self._correlation * down * up + up**2) ** 0.5

    @property
    def _correlation(self) -> float:
        """Phi of the paired answers, corrected for continuity; 0 without pairs."""
        if self.pairs is None:
            return 0.0
        worse, better = self.pairs
        both = self.was.right - worse
        neither = self.was.n - both - worse - better
        margins = self.was.right * (self.was.n - self.was.right) * self.now.right * (self.now.n - self.now.right)
        if margins <= 0 or both < 0 or neither < 0:
            return 0.0
        product = both * neither - worse * better
        return (max(product - self.was.n / 2, 0) if product > 0 else product) / margins**0.5

    @property
    def is_large(self) -> bool:
        """At least 10 points (with room for the rounding of a division)."""
        return abs(self.points) >= CLEAR_POINTS - 1e-9

    @property
    def is_clear(self) -> bool:
        """Large, and not to be explained by chance."""
        return self.is_large and self.p < CLEAR_P

    @property
    def is_notable(self) -> bool:
        """Large or not to be explained by chance."""
        return self.is_large or self.p < CLEAR_P

    @property
    def fell(self) -> bool:
        """A clear loss."""
        return self.is_clear and self.points < 0

    @property
    def rose(self) -> bool:
        """A clear gain."""
        return self.is_clear and self.points > 0


@dataclass(frozen=True)
class ScoredSet:
    """One set of questions with the score of every model that answered it."""

    name: str
    title: str
    scores: dict[str, Score]
    marks: list[dict[str, float]]
    """Per question, the mark of each model; empty where single answers were not kept."""

    def change(self, start: str, end: str) -> Change | None:
        """Compare two models; None where one of them was not scored on this set."""
        if start == end or start not in self.scores or end not in self.scores:
            return None
        was, now = self.scores[start], self.scores[end]
        pairs = self._pairs(start, end)
        p = _mcnemar(*pairs) if pairs else _fisher(was, now)
        return Change(self.name, start, end, was, now, p, pairs)

    def _pairs(self, start: str, end: str) -> tuple[int, int] | None:
        both = [mark[end] - mark[start] for mark in self.marks if start in mark and end in mark]
        if not len(both) == self.scores[start].n == self.scores[end].n:
            return None
        return sum(gain < 0 for gain in both), sum(gain > 0 for gain in both)


def scored_sets(evidence: dict[str, Any], samples: Sequence[dict[str, Any]]) -> list[ScoredSet]:
    """Return the sets of the evidence that hold at least one score, with the marks of their samples."""
    sets: list[ScoredSet] = []
    for entry in evidence.get("sets") or []:
        name, n = str(entry.get("name", "")), entry.get("n")
        shares, counts = entry.get("scores") or {}, entry.get("counts") or {}
        if not is_number(n) or n < 1:
            continue
        scores = {
            str(label): Score(counts[label] if is_number(counts.get(label)) else share * n, int(n))
            for label, share in shares.items()
            if is_number(share)
        }
        marks = [_marks(sample) for sample in samples if sample.get("set") == name]
        if scores:
            sets.append(ScoredSet(name, str(entry.get("title") or name), scores, marks))
    return sets


def compare(one: ScoredSet, labels: Sequence[str]) -> list[Change]:
    """Compare the last model with the one before it, then with the first."""
    starts = dict.fromkeys([*labels[-2:-1], *labels[:1]])
    return [change for start in starts if (change := one.change(start, labels[-1]))]


def answers_that(
    title: str, holds: Callable[[dict[str, Any]], bool], labels: Sequence[str], samples: Sequence[dict[str, Any]]
) -> ScoredSet:
    """Count the answers for which something holds, as if it were a question set."""
    asked = [sample.get("answers") or {} for sample in samples]
    marks = [{label: float(holds(answers[label])) for label in labels if label in answers} for answers in asked]
    given = {label: [mark[label] for mark in marks if label in mark] for label in labels}
    scores = {label: Score(sum(values), len(values)) for label, values in given.items() if values}
    return ScoredSet(title, title, scores, marks)


def _marks(sample: dict[str, Any]) -> dict[str, float]:
    answers = sample.get("answers") or {}
    return {label: answer["score"] for label, answer in answers.items() if is_number(answer.get("score"))}


def _mcnemar(worse: int, better: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(worse, worse + better).pvalue) if worse + better else 1.0


def _fisher(was: Score, now: Score) -> float:
    from scipy.stats import fisher_exact

    table = [[round(score.right), score.n - round(score.right)] for score in (was, now)]
    result: Any = fisher_exact(table)
    return float(result.pvalue)
