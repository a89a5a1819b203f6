"""The tally: votes as win rates, ratings and what should make one doubt them, in the form of an evaluation."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from poise.arena.doubts import doubts
from poise.arena.scores import compared, held_when_shown_again, prompts_of, rate_of, score_of, share_of
from poise.arena.store import Vote
from poise.evaluate import ratings as bradley_terry
from poise.evaluate.result import Line, Result, Table
from poise.evaluate.statistics import Estimate, holm, mcnemar, share, sign_flip, smallest_detectable

CLEAR_P = 0.05


def tally(votes: Sequence[Vote]) -> Result:
    """Count votes: two models by their win rate first, several by ratings too."""
    labels = sorted({label for vote in votes for label in (vote.battle.left, vote.battle.right)})
    pairs = [(pair, of_pair) for pair in combinations(labels, 2) if (of_pair := _between(votes, *pair))]
    leading = [pair if rate_of(of_pair, pair[0]).value >= 0.5 else (pair[1], pair[0]) for pair, of_pair in pairs]
    rates = [
        Line(f"{first} against {second}", rate_of(of_pair, first).scaled(100))
        for (first, second), (_, of_pair) in zip(leading, pairs, strict=True)
    ]
    tests = [_test(first, second, of_pair) for (first, second), (_, of_pair) in zip(leading, pairs, strict=True)]
    for test, adjusted in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["adjusted_p"] = adjusted
    rated = bradley_terry.ratings([compared(vote) for vote in votes])
    tables = [Table("Win rate, a tie half a win", "percent", rates)]
    if len(bradley_terry.parts([compared(vote) for vote in votes])) == 1:
        tables.append(Table("Rating, 0 the mean", "points", [Line(label, rating) for label, rating in rated.items()]))
    return Result(
        kind="arena",
        model=" against ".join(leading[0] if len(pairs) == 1 else labels),
        tables=[*tables, Table("Votes", "percent", _votes(votes)), *_voters(votes)],
        items=[],
        notes=[*(_told_test(test, len(tests)) for test in tests), *doubts(votes)],
        settings={"voters": sorted({vote.voter for vote in votes})},
        figures={"votes": len(votes), "pairs": tests, "ranks": ranks(rated)},
    )


def ranks(rated: dict[str, Estimate]) -> dict[str, int]:
    """Rank models by intervals: one more than how many are surely better."""
    return {label: 1 + sum(other.low > rating.high for other in rated.values()) for label, rating in rated.items()}


def _between(votes: Sequence[Vote], one: str, other: str) -> list[Vote]:
    return [vote for vote in votes if {vote.battle.left, vote.battle.right} == {one, other}]


def _test(first: str, second: str, votes: Sequence[Vote]) -> dict[str, Any]:
    """Test whether both are equally good: a fair coin over the decisive votes, or over prompts that have several."""
    wins = Counter(vote.winner for vote in votes)
    scores, clusters = [score_of(vote, first) for vote in votes], prompts_of(votes)
    even = [0.5] * len(scores)
    alone = len(set(clusters)) == len(clusters)
    return {
        "first": first,
        "second": second,
        "wins": wins[first],
        "losses": wins[second],
        "ties": sum(vote.verdict == "tie" for vote in votes),
        "both_bad": sum(vote.verdict == "both_bad" for vote in votes),
        "test": "exact sign test" if alone else "sign flips over prompts",
        "p": mcnemar(even, scores) if alone else sign_flip(even, scores, clusters),
        "detectable": _detectable(scores, clusters),
    }


def _detectable(scores: Sequence[float], clusters: Sequence[str]) -> float | None:
    """Return the true win rate that would have shown in 4 of 5 arenas of this size and these ties; None for none."""
    of_prompt: dict[str, float] = {}
    for score, cluster in zip(scores, clusters, strict=True):
        of_prompt[cluster] = of_prompt.get(cluster, 0.0) + score - 0.5
    error = sum(gap**2 for gap in of_prompt.values()) ** 0.5 / len(scores)
    rate = 0.5 + smallest_detectable(error)
    return rate if error and rate <= 1 else None


def what_would_show(test: dict[str, Any]) -> str:
    """Say what so many votes could have shown."""
    if test["detectable"] is None:
        return "; so few decisive votes show nothing"
    return f"; a true win rate of {100 * test['detectable']:.0f} % would have shown in 4 of 5 such arenas"


def _told_test(test: dict[str, Any], pairs: int) -> str:
    sure = "a clear difference" if test["adjusted_p"] < CLEAR_P else f"may be chance{what_would_show(test)}"
    together = f", {test['adjusted_p']:.3g} after Holm over {pairs}" if pairs > 1 else ""
    return (
        f"{test['first']} won {test['wins']}, {test['second']} {test['losses']}, {test['ties']} tied, "
        f"{test['both_bad']} both bad; p = {test['p']:.3g} ({test['test']}){together}: {sure}"
    )


def _votes(votes: Sequence[Vote]) -> list[Line]:
    kinds = {"decided": ("left", "right"), "tie": ("tie",), "both bad": ("both_bad",)}
    return [Line(name, share_of([vote.verdict in kind for vote in votes], votes)) for name, kind in kinds.items()]


def _voters(votes: Sequence[Vote]) -> list[Table]:
    """Return how much the place decided, and how often a verdict held when the sides were changed."""
    decisive = [vote for vote in votes if vote.winner is not None]
    lines: list[Line] = []
    if decisive:
        lines.append(Line("left answer preferred", share_of([vote.verdict == "left" for vote in decisive], decisive)))
    held = held_when_shown_again(votes)
    if held:
        lines.append(Line("same verdict when shown again", share(sum(held), len(held)).scaled(100)))
    return [Table("Voters", "percent", lines)] if lines else []
