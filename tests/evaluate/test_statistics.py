"""Statistics: textbook values, and intervals that hold what they say."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from poise.evaluate import statistics


def test_wilson_is_the_textbook_interval() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for successes, n, expected in (
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ):
        assert statistics.wilson(successes, n) == pytest.approx(expected, abs=5e-5)


def test_mcnemar_counts_only_what_changed() -> None:
    """6 worse and 16 better: 2 · P(X ≤ 6 | 22, ½) = 2 · 110 056 / 4 194 304 = 0.0525; 10 unchanged say nothing."""
    before = [1.0] * 6 + [0.0] * 16 + [1.0] * 10
    after = [0.0] * 6 + [1.0] * 16 + [1.0] * 10
    assert statistics.mcnemar(before, after) == pytest.approx(2 * 110056 / 4194304, rel=1e-9)
    assert statistics.mcnemar([1, 0], [1, 0]) == 1


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    """Sorted 0.005 · 4, 0.01 · 3, 0.03 · 2, 0.04 · 1 (below the one before it, so as large as that)."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_a_standard_error_is_the_deviation_over_the_root_of_the_number() -> None:
    assert statistics.standard_error([1, 2, 3, 4]) == pytest.approx((5 / 3 / 4) ** 0.5)
    assert np.isnan(statistics.standard_error([1]))


def test_copies_in_one_cluster_add_no_certainty() -> None:
    once = [1.0, 2.0, 4.0, 7.0, 3.0]
    twice, clusters = once * 2, [0, 1, 2, 3, 4] * 2
    assert statistics.standard_error(twice, clusters) == pytest.approx(statistics.standard_error(once))
    assert statistics.mean(twice, clusters).high == pytest.approx(statistics.mean(once, range(5)).high)
    assert statistics.standard_error(twice) < 0.8 * statistics.standard_error(once)


def test_clusters_of_unequal_size_weigh_by_their_items() -> None:
    assert statistics.mean([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"]).value == 2


def test_the_paired_difference_is_surer_than_two_means() -> None:
    random = np.random.default_rng(0)
    before = random.normal(size=200)
    after = before + 0.2 + random.normal(size=200) * 0.1
    found = statistics.difference(list(before), list(after))
    assert 0.17 < found.low < 0.2 < found.high < 0.23
    assert found.standard_error < statistics.standard_error(list(before)) / 5
    assert statistics.sign_flip(list(before), list(after), resamples=999) == pytest.approx(1 / 1000)
    assert statistics.sign_flip([1.0, 2.0], [1.0, 2.0]) == 1


def test_a_sign_flip_takes_clusters_whole() -> None:
    """One cluster can only be flipped or not: both are as far from zero."""
    assert statistics.sign_flip([0.0] * 9, [1.0] * 9, [0] * 9) == 1
    assert statistics.sign_flip([0.0] * 9, [1.0] * 9) < 0.01


def test_the_smallest_detectable_difference_is_found_four_times_in_five() -> None:
    """1.96 + 0.84 standard errors; simulated: z above 1.96 in 80 of 100."""
    assert statistics.smallest_detectable(1.0) == pytest.approx(2.8016, abs=1e-4)
    drawn = np.random.default_rng(0).normal(statistics.smallest_detectable(1.0), 1, 100_000)
    assert (drawn > 1.96).mean() == pytest.approx(0.8, abs=0.01)


def test_what_is_missing_could_be_anything() -> None:
    assert statistics.worst_case([1.0, 0.0, 1.0], 1, 0, 1) == (0.5, 0.75)


def test_the_same_numbers_give_the_same_interval() -> None:
    values = list(np.random.default_rng(0).random(50))
    assert statistics.mean(values) == statistics.mean(values)


# Coverage ------------------------------------------------------------------------------------------------------------


def two_turns(random: Any, questions: int) -> tuple[Sequence[float], Sequence[int]]:
    """Grades of two turns that share their question's ease."""
    ease = random.normal(0, 1.5, questions)
    grades = [np.clip(mean + ease + random.normal(0, 1.2, questions), 1, 10) for mean in (7, 6.5)]
    return list(np.concatenate(grades)), list(range(questions)) * 2


TWO_TURNS_MEAN, FIRST_TURN_MEAN = 6.7133, 6.9516
"""Of 40 million drawn questions, ± 0.0003."""
SITUATIONS: dict[str, tuple[Callable[[Any], tuple[Sequence[float], Sequence[int] | None]], float]] = {
    "MT-Bench, 80 questions of two turns": (lambda random: two_turns(random, 80), TWO_TURNS_MEAN),
    "a category, 10 questions of two turns": (lambda random: two_turns(random, 10), TWO_TURNS_MEAN),
    "one turn, 80 questions": (lambda random: (two_turns(random, 80)[0][:80], None), FIRST_TURN_MEAN),
    "win rate of a sure judge, 805 pairs": (lambda random: (list(random.beta(0.1, 1, 805)), None), 1 / 11),
    "win rate, 200 pairs": (lambda random: (list(random.beta(0.3, 0.7, 200)), None), 0.3),
    "wins, draws, losses, 100 pairs": (
        lambda random: (list(random.choice([0, 0.5, 1], 100, p=[0.3, 0.2, 0.5])), None),
        0.6,
    ),
    "right answers, 60 questions": (lambda random: (list((random.random(60) < 0.7) * 1.0), None), 0.7),
    "right answers, 805 questions": (lambda random: (list((random.random(805) < 0.2) * 1.0), None), 0.2),
}


def coverage(name: str, trials: int, resamples: int) -> float:
    draw, truth = SITUATIONS[name]
    random = np.random.default_rng(5)
    hits = 0
    for trial in range(trials):
        values, clusters = draw(random)
        found = statistics.mean(values, clusters, resamples=resamples, seed=trial)
        hits += found.low <= truth <= found.high
    return hits / trials


@pytest.mark.parametrize("name", ["MT-Bench, 80 questions of two turns", "right answers, 60 questions"])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(name: str) -> None:
    """200 trials: 95 ± 4.6 is three standard errors."""
    assert 0.904 <= coverage(name, trials=200, resamples=300) <= 0.996


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SITUATIONS)
def test_every_interval_covers_93_to_97_percent(name: str) -> None:
    """1500 trials: one standard error is 0.6 percent."""
    assert 0.93 <= coverage(name, trials=1500, resamples=600) <= 0.97


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_interval_of_a_paired_difference_covers_too() -> None:
    random = np.random.default_rng(3)
    hits = 0
    for trial in range(1500):
        before, clusters = two_turns(random, 40)
        gains = random.normal(0.3, 0.8, 40)
        after = [grade + gain for grade, gain in zip(before, [*gains, *gains], strict=True)]
        found = statistics.difference(before, after, clusters, resamples=600, seed=trial)
        hits += found.low <= 0.3 <= found.high
    assert 0.93 <= hits / 1500 <= 0.97


def test_paired_shares_have_newcombes_interval_even_where_nothing_changed() -> None:
    """His table of 1998: 36 right under both, 12 only before, 2 only after give 0.0569 to 0.3404."""
    before, after = [1] * 48 + [0] * 2, [1] * 36 + [0] * 12 + [1] * 2
    found = statistics.difference(before, after)
    assert (found.low, found.high) == pytest.approx((-0.3404, -0.0569), abs=5e-5)
    same = statistics.difference([1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0])
    assert same.value == 0
    assert same.low < -0.1
    assert same.high > 0.1
