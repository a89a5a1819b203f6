"""BoolQ."""

import pytest

from poise.examples import Message

ROW = {"question": "is the sky blue", "answer": True, "passage": "The sky is blue."}


def test_a_question_about_a_passage_is_answered_true_or_false(read) -> None:
    (yes,), (no,) = (read("boolq", [ROW | {"answer": answer}]).examples for answer in (True, False))
    assert [message.role for message in yes.messages] == ["user", "assistant"]
    assert "The sky is blue." in yes.messages[0].content
    assert yes.messages[0].content.endswith("True or false - is the sky blue?")
    assert yes.messages[1] == Message("assistant", "true") and no.messages[1] == Message("assistant", "false")
    assert yes.lineage == ("rows:1",)


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"question": "q", "answer": True}, "missing column", " passage"),
        (ROW | {"passage": None}, "null value", " passage"),
        (ROW | {"answer": "true"}, "wrong type", " answer"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("boolq", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
