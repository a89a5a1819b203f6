import pytest

from poise.report.scores import Score, ScoredSet, scored_sets


def test_wilson_interval_of_10_of_20_is_the_published_one():
    # Wilson with z = 1.96: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) = 0.5 ± 0.2007 at n = 20, p = 1/2.
    assert Score(10, 20).interval == pytest.approx((0.2993, 0.7007), abs=1e-4)


def test_a_score_of_none_keeps_an_interval_above_zero():
    # low = 0 and high = z² / (n + z²) = 3.8415 / 43.8415 at n = 40.
    assert Score(0, 40).interval == pytest.approx((0, 0.08762), abs=1e-5)


def marked(*marks: tuple[float, float]) -> ScoredSet:
    scores = {"a": Score(sum(a for a, _ in marks), len(marks)), "b": Score(sum(b for _, b in marks), len(marks))}
    return ScoredSet("facts", "facts", scores, [{"a": a, "b": b} for a, b in marks])


def test_paired_answers_are_tested_with_mcnemar():
    change = marked(*[(1, 0)] * 6, *[(1, 1)] * 4).change("a", "b")
    # six answers changed, all for the worse: p = 2 / 2^6
    assert change and change.p == pytest.approx(0.03125) and change.pairs == (6, 0) and change.fell


def test_five_changed_answers_are_too_few_to_be_sure():
    change = marked(*[(1, 0)] * 5).change("a", "b")
    assert change and change.p == pytest.approx(0.0625) and change.is_large and not change.fell


def test_without_the_single_answers_fisher_is_used():
    change = ScoredSet("facts", "facts", {"a": Score(3, 3), "b": Score(0, 3)}, []).change("a", "b")
    # both margins fixed: 2 tables as extreme of C(6,3) = 20
    assert change and change.p == pytest.approx(0.1) and change.pairs is None


def test_the_interval_of_a_paired_difference_is_the_published_one():
    # 36 right under both, 12 only before, 2 only after: Newcombe 1998 has 0.0569 to 0.3404 for the loss
    change = marked(*[(1, 1)] * 36, *[(1, 0)] * 12, *[(0, 1)] * 2).change("a", "b")
    assert change and change.interval == pytest.approx((-34.04, -5.69), abs=0.005)


def test_without_pairs_the_interval_of_a_difference_is_that_of_two_samples():
    # 56 of 70 and 48 of 80: Newcombe 1998 has 0.0524 to 0.3339 for two samples
    change = ScoredSet("facts", "facts", {"a": Score(48, 80), "b": Score(56, 70)}, []).change("a", "b")
    assert change and change.interval == pytest.approx((5.24, 33.39), abs=0.005)


def test_no_changed_answer_is_no_evidence_of_change():
    change = marked((1, 1), (0, 0)).change("a", "b")
    assert change and change.p == 1 and change.points == 0


def test_exactly_ten_points_count_as_large_in_spite_of_float_division():
    change = ScoredSet("facts", "facts", {"a": Score(90, 300), "b": Score(60, 300)}, []).change("a", "b")
    assert change and change.is_large


def test_a_set_without_questions_or_scores_is_passed_over():
    sets = [{"name": "none", "n": 0, "scores": {"a": 1.0}}, {"name": "unscored", "n": 3, "scores": {"a": None}}]
    assert scored_sets({"sets": sets}, []) == []


def test_counts_are_taken_before_shares():
    (one,) = scored_sets({"sets": [{"name": "facts", "n": 3, "scores": {"a": 0.33}, "counts": {"a": 1}}]}, [])
    assert one.scores["a"] == Score(1, 3)
