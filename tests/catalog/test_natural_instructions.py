"""Super-Natural Instructions."""

import pytest

from poise.examples import Message

ROW = {
    "task_name": "task1_opposites",
    "id": "task1-0",
    "definition": "Give the opposite of the word.",
    "inputs": "Word: hot",
    "targets": "cold",
}


def test_a_definition_and_an_input_are_answered_by_the_target(read) -> None:
    (example,) = read("natural_instructions", [ROW]).examples
    assert example.messages == (
        Message("user", "Give the opposite of the word.\n\nWord: hot"),
        Message("assistant", "cold"),
    )
    assert example.lineage == ("rows:1",)


def test_a_row_without_an_answer_is_left_out(read) -> None:
    (left,) = read("natural_instructions", [ROW | {"targets": " "}]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", "empty completion", "targets")


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"definition": "d", "input": "i", "targets": "t"}, "missing column", " inputs"),
        (ROW | {"definition": None}, "null value", " definition"),
        (ROW | {"targets": ["cold"]}, "wrong type", " targets"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("natural_instructions", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
