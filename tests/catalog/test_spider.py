"""Spider."""

import pytest

from poise.examples import Message

ROW = {"db_id": "pets", "question": "How many dogs are there?", "query": "SELECT count(*) FROM dogs"}


def test_a_question_is_answered_by_its_query(read) -> None:
    (example,) = read("spider", [ROW]).examples
    assert example.messages == (
        Message("user", "Which SQL query answers this question?\n\nHow many dogs are there?"),
        Message("assistant", "SELECT count(*) FROM dogs"),
    )
    assert example.lineage == ("rows:1",)


def test_a_row_without_an_answer_is_left_out(read) -> None:
    (left,) = read("spider", [ROW | {"query": " "}]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", "empty completion", "query")


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"question": "q", "sql": "SELECT 1"}, "missing column", " query"),
        (ROW | {"query": None}, "null value", " query"),
        (ROW | {"question": ["How", "many"]}, "wrong type", " question"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("spider", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
