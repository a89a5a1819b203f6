"""Votes counted: rates and tests by hand, ratings, and what should make one doubt them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poise.arena.battles import Battle, battle, shown_again
from poise.arena.store import Vote
from poise.arena.tally import ranks, tally
from poise.evaluate.answer import Answer
from poise.evaluate.questions import Question
from poise.evaluate.result import Line, Result, Table, told
from poise.evaluate.statistics import Estimate, wilson
from poise.examples import Message
from poise.report.evaluations import read_evaluations


def question(number: int) -> Question:
    return Question(f"q{number}", "s", (Message("user", f"What about {number}?"),))


def vote(number: int, winner: str | None, *, pair: tuple[str, str] = ("a", "b"), **changes: Any) -> Vote:
    """A vote for one of two, or a tie."""
    fought: Battle = changes.pop("battle", None) or battle(question(number), *pair, seed=0)
    verdict = "tie" if winner is None else "left" if winner == fought.left else "right"
    left, right = (Answer(f"{label} says {number}", 3, True, None) for label in (fought.left, fought.right))
    return replace(Vote(fought, left, right, "me", verdict, 9.0), **changes)


def line(result: Any, table: int, number: int) -> Any:
    return result.tables[table].lines[number].estimate


def test_two_models_have_a_win_rate_with_wilsons_interval_and_an_exact_test() -> None:
    """15 of 20 by Wilson 1927; two-sided sign test 2 · P(X ≤ 5 | 20, ½) = 2 · 21700 / 1048576 = 0.0414."""
    result = tally([vote(number, "b" if number < 15 else "a") for number in range(20)])
    rate = line(result, 0, 0)
    assert result.tables[0].lines[0].name == "b against a"
    assert rate.value == 75
    assert (rate.low, rate.high) == pytest.approx([100 * bound for bound in wilson(15, 20)])
    assert result.notes[0] == "b won 15, a 5, 0 tied, 0 both bad; p = 0.0414 (exact sign test): a clear difference"
    assert result.figures["pairs"][0]["p"] == pytest.approx(2 * 21700 / 1048576)
    assert result.model == "b against a"


def test_ties_and_two_bad_answers_are_half_a_win_and_are_counted_apart() -> None:
    votes = [vote(0, "a"), vote(1, "b"), vote(2, "a"), vote(3, None), vote(4, None, verdict="both_bad")]
    result = tally(votes)
    assert line(result, 0, 0).value == pytest.approx(60)
    assert [(each.name, each.estimate.value) for each in result.tables[2].lines] == [
        ("decided", pytest.approx(60)), ("tie", pytest.approx(20)), ("both bad", pytest.approx(20)),
    ]  # fmt: skip
    assert "a won 2, b 1, 1 tied, 1 both bad" in result.notes[0]


def test_what_may_be_chance_says_what_would_have_shown() -> None:
    """10 of 20: 0.5 + 2.8016 · 0.5 / √20 = 0.813; 2 of 4 would be 1.2, which no rate is; ties leave less to chance."""
    chance = tally([vote(number, "ab"[number % 2]) for number in range(20)]).notes[0]
    assert chance.endswith("may be chance; a true win rate of 81 % would have shown in 4 of 5 such arenas")
    few = tally([vote(number, "ab"[number % 2]) for number in range(4)]).notes[0]
    assert few.endswith("may be chance; so few decisive votes show nothing")
    with_ties = tally([vote(number, "ab"[number % 2] if number < 10 else None) for number in range(20)]).notes[0]
    assert "a true win rate of 72 %" in with_ties
    copies = [vote(number, "ab"[number % 2], voter=voter) for number in range(20) for voter in ("me", "you")]
    assert "a true win rate of 81 %" in tally(copies).notes[0], "a second voter who says the same shows no more"


def test_votes_of_many_on_one_prompt_are_no_independent_votes() -> None:
    alone = tally([vote(number, "a" if number % 4 else "b") for number in range(20)])
    copied = tally(
        [vote(number, "a" if number % 4 else "b", voter=voter) for number in range(20) for voter in ("me", "you")]
    )
    width = [line(result, 0, 0).high - line(result, 0, 0).low for result in (alone, copied)]
    assert width[1] > 0.99 * width[0], "the second voter says what the first said"
    assert "sign flips over prompts" in copied.notes[0]


def test_several_models_are_rated_and_ranked_by_what_is_sure() -> None:
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    votes = [vote(number, pair[0] if number % 10 else pair[1], pair=pair) for number in range(40) for pair in pairs]
    result = tally(votes)
    rating = {each.name: each.estimate for each in result.tables[1].lines}
    assert list(rating) == ["a", "b", "c"]
    assert sum(each.value for each in rating.values()) == pytest.approx(0, abs=1e-6)
    assert rating["a"].low > rating["b"].high > rating["b"].low > rating["c"].high
    assert result.figures["ranks"] == {"a": 1, "b": 2, "c": 3}
    p, adjusted = (result.figures["pairs"][0][name] for name in ("p", "adjusted_p"))
    assert adjusted == pytest.approx(3 * p)
    assert "after Holm over 3: a clear difference" in result.notes[0]
    assert ranks({"x": Estimate(5, 1, 0, 9, 9), "y": Estimate(4, 1, -1, 8, 9)}) == {"x": 1, "y": 1}


def test_models_that_no_vote_links_get_no_common_rating() -> None:
    result = tally([vote(0, "a"), vote(1, "c", pair=("c", "d"))])
    assert [table.title for table in result.tables][:2] == ["Win rate, a tie half a win", "Votes"]
    assert "no vote links these, so they have no common rating: a and b; c and d" in result.notes


def test_a_voter_who_always_takes_one_side_is_told() -> None:
    votes = [vote(number, None, verdict="left") for number in range(12)]
    assert any(note.startswith("the left answer was preferred more often than chance") for note in tally(votes).notes)
    fair = [vote(number, None, verdict="left" if number % 2 else "right") for number in range(12)]
    assert not any("preferred" in note for note in tally(fair).notes)


def test_verdicts_that_do_not_hold_when_shown_again_are_told() -> None:
    first = [vote(number, "a") for number in range(12)]
    for same in (2, 11):
        again = [
            vote(number, "a" if number < same else "b", battle=shown_again(first[number].battle))
            for number in range(12)
        ]
        result = tally([*first, *again])
        held = result.tables[-1].lines[-1]
        assert (held.name, held.estimate.value) == ("same verdict when shown again", pytest.approx(100 * same / 12))
        assert any("not far from a coin's" in note for note in result.notes) == (same == 2)


def test_an_answer_that_names_its_model_is_told_with_the_rate_without_it() -> None:
    pair = ("mistral-dpo", "base-model")
    votes = [vote(number, "base-model", pair=pair, left=Answer("x", 1, True, None), right=Answer("y", 1, True, None))
             for number in range(9)]  # fmt: skip
    said = vote(9, "mistral-dpo", pair=pair)
    assert said.answer_of("mistral-dpo").text == "mistral-dpo says 9"
    (note,) = [note for note in tally([*votes, said]).notes if "not blind" in note]
    assert note.startswith("in 1 battles an answer says its model's name")
    assert "without them base-model wins 100 %" in note
    assert not any("not blind" in note for note in tally(votes).notes), "'model' is no name"


def test_hasty_votes_and_equal_answers_are_told() -> None:
    notes = tally([vote(0, "a", seconds=0.4), vote(1, "b", seconds=0.5), vote(2, None, seconds=None)]).notes
    assert "half of the votes came within 0.5 s of seeing two answers" in notes
    assert "1 of 3 pairs of answers were equal and counted as ties without being shown" in notes


def test_the_tally_is_an_evaluation_that_reports_show(tmp_path: Path) -> None:
    result = tally([vote(number, "b" if number < 15 else "a") for number in range(20)])
    result.write(tmp_path)
    (shown,) = read_evaluations([tmp_path])
    assert (shown.kind, shown.model) == ("arena", "b against a")
    title, unit, (number,) = shown.tables[0]
    assert (title, unit, number.value, number.interval, number.n) == (
        "Win rate, a tie half a win", "percent", "75.00", "53.13 to 88.81", 20,
    )  # fmt: skip
    assert "b against a  75.00 [53.13, 88.81]  n=20" in told(json.loads(json.dumps(result.as_json(tmp_path))))


@pytest.mark.parametrize(
    ("reach", "shown"),
    [
        (20.0, "1.00 [-19.00, 21.00]"),
        (0.03, "1.000 [0.970, 1.030]"),
        (0.0042, "1.0000 [0.9958, 1.0042]"),
        (0.0, "1.00 [1.00, 1.00]"),
    ],
)
def test_numbers_show_two_digits_of_how_far_they_could_be_off(reach: float, shown: str, tmp_path: Path) -> None:
    lines = [Line("x", Estimate(1.0, 0.1, 1 - reach, 1 + reach, 9))]
    result = Result("k", "m", [Table("T", "u", lines)], [])
    result.write(tmp_path)
    assert f"  x  {shown}  n=9" in told(result.as_json(tmp_path))
    (evaluation,) = read_evaluations([tmp_path])
    number = evaluation.tables[0][2][0]
    assert f"{number.value} [{number.interval.replace(' to ', ', ')}]" == shown
