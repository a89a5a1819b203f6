"""HelpSteer."""

from itertools import permutations
from typing import Any

import pytest

from poise.examples import Message, PreferencePair
from poise.sources.dataset import Left

NAMES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def rated(response: str, *marks: int, prompt: str = "Name a prime.") -> dict[str, Any]:
    return {"prompt": prompt, "response": response, **dict(zip(NAMES, marks, strict=True))}


GOOD = rated("7 is one.", 4, 4, 4, 1, 1)
CORRECT = rated("7", 3, 4, 4, 0, 0)
WRONG = rated("9", 1, 0, 4, 1, 1)
WRONG_BUT_ELOQUENT = rated("9, as one sees", 4, 3, 4, 4, 4)


def sides(found) -> set[tuple[str, str]]:
    return {(pair.chosen[0].content, pair.rejected[0].content) for pair in found.examples}


def test_the_best_correct_answer_is_chosen_over_one_that_is_not(read) -> None:
    found = read("helpsteer", [WRONG, CORRECT, GOOD])
    prompt, chosen, rejected = Message("user", "Name a prime."), *(Message("assistant", t) for t in ("7 is one.", "9"))
    assert found.examples == [PreferencePair((prompt,), (chosen,), (rejected,), lineage=("rows:3", "rows:1"))]
    assert found.left == [Left("rows:2", "other answers were taken")]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([GOOD, WRONG_BUT_ELOQUENT, WRONG], {("7 is one.", "9")}),
        ([GOOD, CORRECT], {("7 is one.", "7")}),
        ([CORRECT, rated("9", 3, 3, 4, 1, 0)], {("7", "9")}),
        ([GOOD, WRONG, GOOD | {"prompt": "One more."}, WRONG | {"prompt": "One more."}], {("7 is one.", "9")}),
    ],
    ids=["the rejected does not outscore", "both correct", "equal sums, one correct", "two prompts"],
)
def test_the_rejected_answer_scores_no_more_than_the_chosen(read, rows, expected) -> None:
    assert sides(read("helpsteer", rows)) == expected


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([WRONG, WRONG_BUT_ELOQUENT], "no answer is fully correct"),
        ([GOOD], "no worse answer"),
        ([GOOD, WRONG_BUT_ELOQUENT], "no worse answer"),
        ([GOOD, GOOD | {"correctness": 0}], "no worse answer"),
        ([GOOD | {"response": " "}], "empty completion"),
    ],
)
def test_answers_that_make_no_pair_are_left(read, rows, reason) -> None:
    found = read("helpsteer", rows)
    assert not found.examples
    assert [(each.place, each.reason) for each in found.left] == [
        (f"rows:{number}", reason) for number in range(1, len(rows) + 1)
    ]


def test_the_order_of_rows_changes_no_pair(read) -> None:
    rows = [GOOD, GOOD | {"response": "5 is one."}, WRONG, WRONG | {"response": "15"}]
    expected = sides(read("helpsteer", rows))
    assert len(expected) == 1
    assert all(sides(read("helpsteer", shuffled)) == expected for shuffled in permutations(rows))


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"prompt": "p", "response": "r"}, "missing column", " helpfulness"),
        (GOOD | {"verbosity": None}, "null value", " verbosity"),
        (GOOD | {"correctness": "4"}, "wrong type", " correctness"),
        (GOOD | {"prompt": "\ud800"}, "lone surrogate", " prompt"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("helpsteer", [GOOD, row, WRONG])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
