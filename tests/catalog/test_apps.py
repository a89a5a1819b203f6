"""APPS."""

import json

import pytest

from poise.examples import Message

ROW = {"problem_id": 0, "question": "Print 1.", "solutions": '["print(1)", "print(2 - 1)"]', "difficulty": "interview"}


def test_a_problem_is_answered_by_its_first_solution(read) -> None:
    (example,) = read("apps", [ROW]).examples
    assert example.messages == (
        Message("user", "Solve this problem with a Python program:\n\nPrint 1."),
        Message("assistant", "print(1)"),
    )
    assert example.lineage == ("rows:1",)


@pytest.mark.parametrize("solutions", ["", "[]"])
def test_a_problem_without_a_solution_is_left_out(read, solutions) -> None:
    (left,) = read("apps", [ROW | {"solutions": solutions}]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", "no solution", "solutions")


def test_a_row_without_an_answer_is_left_out(read) -> None:
    (left,) = read("apps", [ROW | {"solutions": '[" "]'}]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", "empty completion", "solutions")


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"question": "q", "solution": "[]"}, "missing column", " solutions"),
        (ROW | {"question": None}, "null value", " question"),
        (ROW | {"solutions": ["print(1)"]}, "wrong type", " solutions"),
        (ROW | {"solutions": "print(1)"}, "not JSON", " solutions"),
        (ROW | {"solutions": json.dumps({"python": "print(1)"})}, "wrong type", " solutions"),
        (ROW | {"solutions": "[null]"}, "null value", " solutions[0]"),
        (ROW | {"solutions": "[1]"}, "wrong type", " solutions[0]"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("apps", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
