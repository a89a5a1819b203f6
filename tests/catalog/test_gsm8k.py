"""GSM8K."""

import pytest

from poise.examples import Message

ROW = {
    "question": "Ann sold 48 clips and then half as many. How many?",
    "answer": "Then 48/2 = <<48/2=24>>24.\nIn all 48+24 = <<48+24=72>>72 clips.\n#### 72",
}


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({}, ROW["answer"]),
        ({"calculator": False}, "Then 48/2 = 24.\nIn all 48+24 = 72 clips.\n#### 72"),
    ],
)
def test_the_reasoning_and_the_result_are_kept(read, options, answer) -> None:
    (example,) = read("gsm8k", [ROW], **options).examples
    assert example.messages == (Message("user", ROW["question"]), Message("assistant", answer))
    assert example.lineage == ("rows:1",)


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"answer": "#### 72"}, "missing column", " question"),
        (ROW | {"answer": None}, "null value", " answer"),
        (ROW | {"answer": 72}, "wrong type", " answer"),
        (ROW | {"answer": ""}, "no final answer", " answer"),
        (ROW | {"answer": "In all 72.\n####"}, "no final answer", " answer"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("gsm8k", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
