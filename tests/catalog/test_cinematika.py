"""Cinematika, its instructions."""

import pytest

from poise.examples import Message

ROW = {"input": "Create a card for Rick.", "output": "name: Rick"}


def test_an_input_is_answered_by_the_output(read) -> None:
    (example,) = read("cinematika", [ROW]).examples
    assert example.messages == (Message("user", "Create a card for Rick."), Message("assistant", "name: Rick"))
    assert example.lineage == ("rows:1",)


def test_a_row_without_an_answer_is_left_out(read) -> None:
    (left,) = read("cinematika", [ROW | {"output": " "}]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", "empty completion", "output")


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"plain_scenes": "INT. BAR", "index": 1}, "missing column", " input"),
        (ROW | {"output": None}, "null value", " output"),
        (ROW | {"input": 1}, "wrong type", " input"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("cinematika", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
