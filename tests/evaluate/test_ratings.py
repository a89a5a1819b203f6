"""Ratings: closed forms, another optimizer, and intervals that hold what they say."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from poise.evaluate.ratings import POINTS, Vote, parts, ratings
from poise.evaluate.statistics import wilson, win_rate


def votes_of(first: str, second: str, scores: list[float]) -> list[Vote]:
    return [Vote(first, second, score, f"{first}{second}{number}") for number, score in enumerate(scores)]


def test_two_models_have_the_closed_form_of_their_votes_and_half_a_tie() -> None:
    """7 of 10 and half a tie is 7.25 of 10.5: 400 log10(7.25 / 3.25) = 139.4 points apart."""
    rated = ratings(votes_of("a", "b", [1.0] * 6 + [0.5] * 2 + [0.0] * 2))
    assert rated["a"].value - rated["b"].value == pytest.approx(400 * np.log10(7.25 / 3.25))
    assert list(rated) == ["a", "b"]
    assert (rated["a"].low, rated["a"].high) == pytest.approx((-rated["b"].high, -rated["b"].low), abs=1e-3)


def test_ten_of_ten_are_rated_finitely_apart() -> None:
    """10.25 of 10.5: 645 points, where the likelihood alone has no maximum. No loss in ten is up to one in four."""
    rated = ratings(votes_of("a", "b", [1.0] * 10))
    assert rated["a"].value - rated["b"].value == pytest.approx(400 * np.log10(10.25 / 0.25))
    assert 2 * rated["a"].low == pytest.approx(400 * np.log10(0.765 / 0.235), abs=3)
    assert 1000 < 2 * rated["a"].high < 3000


def test_three_models_have_the_ratings_of_another_optimizer() -> None:
    random = np.random.default_rng(0)
    votes = [Vote(*pair, float(random.integers(0, 3)) / 2, n) for n in range(40) for pair in combinations("abc", 2)]

    def loss(theta: Any) -> float:
        strength = dict(zip("abc", theta, strict=True))
        gaps = [(strength[vote.first] - strength[vote.second], vote.score, 1.0) for vote in votes]
        gaps += [(strength[one] - strength[other], 0.5, 0.5) for one, other in combinations("abc", 2)]
        return sum(w * (s * np.logaddexp(0, -gap) + (1 - s) * np.logaddexp(0, gap)) for gap, s, w in gaps)

    found = minimize(loss, np.zeros(3), tol=1e-12).x
    expected = (found - found.mean()) * POINTS
    rated = ratings(votes)
    assert [rated[name].value for name in "abc"] == pytest.approx(list(expected), abs=0.01)


def test_the_same_votes_the_other_way_round_are_the_same() -> None:
    votes = votes_of("a", "b", [1.0, 1.0, 0.5, 0.0]) + votes_of("b", "c", [1.0, 0.5, 0.0])
    flipped = [Vote(vote.second, vote.first, 1 - vote.score, vote.cluster) for vote in votes]
    for name, rating in ratings(votes).items():
        other = ratings(flipped)[name]
        assert (rating.value, rating.low, rating.high) == pytest.approx((other.value, other.low, other.high), abs=0.01)


def test_votes_that_share_a_prompt_are_worth_less_and_ties_make_sure() -> None:
    scores = [1.0, 1.0, 0.0] * 8
    alone = ratings(votes_of("a", "b", scores))["a"]
    copied = ratings(votes_of("a", "b", scores) * 2)["a"]
    assert copied.high - copied.low > 0.95 * (alone.high - alone.low), "a second voter who says the same adds nothing"
    ties = ratings(votes_of("a", "b", [*([0.5] * 16), *([1.0] * 8)]))["a"]
    assert ties.high - ties.low < 0.8 * (alone.high - alone.low)


def test_votes_that_balance_each_other_leave_no_certainty() -> None:
    """b loses to a as it beats c, prompt by prompt: its rating moves with no prompt."""
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    rated = ratings([Vote(*pair, float(n % 10 > 0), n) for n in range(40) for pair in pairs])
    assert rated["b"].high - rated["b"].low > 50


def test_models_that_no_vote_links_are_found() -> None:
    votes = [*votes_of("a", "b", [1.0]), *votes_of("c", "d", [1.0]), *votes_of("d", "e", [1.0])]
    assert sorted(map(sorted, parts(votes))) == [["a", "b"], ["c", "d", "e"]]
    assert len(parts([*votes, *votes_of("b", "e", [0.5])])) == 1


def test_a_win_rate_without_ties_is_wilsons_and_with_them_narrower() -> None:
    found = win_rate([1.0] * 15 + [0.0] * 5)
    assert (found.low, found.high) == pytest.approx(wilson(15, 20))
    with_ties = win_rate([1.0] * 10 + [0.5] * 10)
    assert with_ties.value == 0.75
    assert with_ties.high - with_ties.low < 0.8 * (found.high - found.low)
    all_ties = win_rate([0.5] * 10)
    assert 0.35 < all_ties.low < 0.45 < 0.55 < all_ties.high < 0.65


# Coverage ------------------------------------------------------------------------------------------------------------

ARENAS: dict[str, tuple[tuple[float, ...], int, float, int]] = {
    "two models, 40 prompts": ((0.4, -0.4), 40, 0.2, 1),
    "two models far apart, 40 prompts": ((0.8, -0.8), 40, 0.2, 1),
    "three models, 30 prompts, every pair": ((0.5, 0.0, -0.5), 30, 0.2, 3),
    "three models, 60 prompts, one pair each": ((0.5, 0.0, -0.5), 60, 0.2, 1),
    "four models, 60 prompts, many ties": ((0.5, 0.2, -0.2, -0.5), 60, 0.4, 2),
}
"""Strengths, prompts, share of ties between equals, battles on each prompt."""
RATES: dict[str, tuple[int, float, float, int, float]] = {
    "20 votes": (20, 0.6, 0.3, 1, 0.0),
    "20 votes, most of them ties": (20, 0.5, 0.6, 1, 0.0),
    "50 votes for one": (50, 0.9, 0.1, 1, 0.0),
    "200 votes": (200, 0.6, 0.3, 1, 0.0),
    "40 prompts of two voters who agree": (40, 0.6, 0.2, 2, 0.7),
    "40 prompts of three voters at random": (40, 0.6, 0.2, 3, 0.0),
}
"""Prompts, rate, ties, voters, and how often a voter says what the one before said."""


def drawn(random: Any, win: float, tie: float) -> float:
    chance = random.random()
    return 1.0 if chance < win else 0.5 if chance < win + tie else 0.0


def coverage_of_a_rate(name: str, trials: int) -> float:
    prompts, rate, ties, voters, agree = RATES[name]
    random, hits = np.random.default_rng(5), 0
    for _ in range(trials):
        scores: list[float] = []
        for _ in range(prompts):
            for voter in range(voters):
                repeats = voter and random.random() < agree
                scores.append(scores[-1] if repeats else drawn(random, rate - ties / 2, ties))
        found = win_rate(scores, [number // voters for number in range(len(scores))])
        hits += found.low <= rate <= found.high
    return hits / trials


def coverage_of_ratings(name: str, trials: int) -> float:
    """Cover every model's rating; a voter's taste moves all battles on a prompt together."""
    strengths, prompts, ties, battles = ARENAS[name]
    models = "abcd"[: len(strengths)]
    pairs = list(combinations(range(len(strengths)), 2))
    random, hits = np.random.default_rng(5), 0
    for _ in range(trials):
        votes: list[Vote] = []
        for prompt in range(prompts):
            for turn in range(battles):
                one, other = pairs[(prompt + turn) % len(pairs)]
                share = 1 / (1 + np.exp(strengths[other] - strengths[one]))
                tie = 4 * ties * share * (1 - share)
                votes.append(Vote(models[one], models[other], drawn(random, share - tie / 2, tie), prompt))
        rated = ratings(votes)
        hits += sum(
            rated[model].low <= strength * POINTS <= rated[model].high
            for model, strength in zip(models, strengths, strict=True)
        )
    return hits / trials / len(strengths)


def test_the_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """200 trials of a rate: 95 ± 4.6 is three standard errors; 40 of two models: ± 10.3."""
    assert 0.904 <= coverage_of_a_rate("20 votes", trials=200) <= 0.996
    assert 0.847 <= coverage_of_ratings("two models, 40 prompts", trials=40) <= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RATES)
def test_every_win_rate_covers_93_to_97_percent(name: str) -> None:
    """3000 trials: one standard error is 0.4 percent."""
    assert 0.93 <= coverage_of_a_rate(name, trials=3000) <= 0.97


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ARENAS)
def test_every_rating_covers_93_to_97_percent(name: str) -> None:
    """800 trials: one standard error is 0.8 percent of one model, less of several."""
    assert 0.93 <= coverage_of_ratings(name, trials=800) <= 0.97
