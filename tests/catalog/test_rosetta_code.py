"""Rosetta Code."""

import pytest

from poise.examples import Message

ROW = {
    "task_url": "http://rosettacode.org/wiki/A+B",
    "task_name": "A+B",
    "task_description": "Print the sum of two integers.",
    "language_url": "#Python",
    "language_name": "Python",
    "code": "print(sum(map(int, input().split())))",
}
C = ROW | {"language_name": "C", "code": 'printf("%d", a + b);'}


def test_a_task_is_asked_in_each_of_its_languages(read) -> None:
    python, c = read("rosetta_code", [ROW, C]).examples
    assert python.messages == (
        Message("user", "Write a program in Python that does this task:\n\nPrint the sum of two integers."),
        Message("assistant", "print(sum(map(int, input().split())))"),
    )
    assert c.messages == (
        Message("user", "Write a program in C that does this task:\n\nPrint the sum of two integers."),
        Message("assistant", 'printf("%d", a + b);'),
    )
    assert (python.lineage, c.lineage) == (("rows:1",), ("rows:2",))


def test_the_first_program_of_a_task_and_language_is_kept(read) -> None:
    found = read("rosetta_code", [ROW, ROW | {"code": "print(3)"}, ROW | {"task_name": "Sum"}])
    assert [example.lineage for example in found.examples] == [("rows:1",), ("rows:3",)]
    (left,) = found.left
    assert (left.place, left.reason) == ("rows:2", "another program for its task and language")
    assert left.evidence == "A+B in Python"


def test_a_row_without_a_program_is_left_out_and_takes_no_place(read) -> None:
    found = read("rosetta_code", [ROW | {"code": "\n"}, ROW])
    assert [(left.place, left.reason, left.evidence) for left in found.left] == [("rows:1", "empty completion", "code")]
    assert [example.lineage for example in found.examples] == [("rows:2",)]


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"task_name": "t", "task_description": "d", "language": "C", "code": "c"}, "missing column", " language_name"),
        (C | {"task_description": None}, "null value", " task_description"),
        (C | {"code": ["c"]}, "wrong type", " code"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("rosetta_code", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
