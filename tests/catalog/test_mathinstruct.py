"""MathInstruct."""

import pytest

from poise.examples import Message

ROW = {"source": "data/CoT/gsm_rft.json", "instruction": "What is 1 + 1?", "output": "1 + 1 = 2. The answer is 2."}


def test_an_instruction_is_answered_by_the_output(read) -> None:
    (example,) = read("mathinstruct", [ROW]).examples
    assert example.messages == (Message("user", "What is 1 + 1?"), Message("assistant", "1 + 1 = 2. The answer is 2."))
    assert example.lineage == ("rows:1",)


def test_a_row_without_an_answer_is_left_out(read) -> None:
    (left,) = read("mathinstruct", [ROW | {"output": " "}]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", "empty completion", "output")


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"instruction": "q", "response": "a"}, "missing column", " output"),
        (ROW | {"instruction": None}, "null value", " instruction"),
        (ROW | {"output": 2}, "wrong type", " output"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("mathinstruct", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
