"""Tested 22k Python Alpaca."""

import pytest

from poise.examples import Message

ROW = {"instruction": "Sort the list.", "input": "[3, 1]", "output": "[1, 3]"}


@pytest.mark.parametrize(
    ("given", "asked"),
    [("[3, 1]", "Sort the list.\n\n[3, 1]"), ("", "Sort the list."), (None, "Sort the list.")],
)
def test_an_instruction_is_asked_with_what_it_is_given(read, given, asked) -> None:
    (example,) = read("python_alpaca", [ROW | {"input": given}]).examples
    assert example.messages == (Message("user", asked), Message("assistant", "[1, 3]"))
    assert example.lineage == ("rows:1",)


def test_a_row_without_an_answer_is_left_out(read) -> None:
    (left,) = read("python_alpaca", [ROW | {"output": " "}]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", "empty completion", "output")


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"instruction": "i", "output": "o"}, "missing column", " input"),
        (ROW | {"output": None}, "null value", " output"),
        (ROW | {"input": 3}, "wrong type", " input"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("python_alpaca", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
