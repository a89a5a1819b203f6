"""SlimOrca."""

import pytest

from poise.examples import Message

SYSTEM = {"from": "system", "value": "Be brief.", "weight": None}
HUMAN = {"from": "human", "value": "Hi", "weight": 0.0}
GPT = {"from": "gpt", "value": "Hello", "weight": 1.0}
ROW = {"conversations": [SYSTEM, HUMAN, GPT]}


def test_a_conversation_keeps_its_turns_and_loses_their_weights(read) -> None:
    (example,) = read("slimorca", [ROW]).examples
    assert example.messages == (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"))
    assert example.lineage == ("rows:1",)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [([HUMAN, GPT | {"value": "\n"}], "empty completion"), ([SYSTEM, HUMAN], "no assistant turn")],
)
def test_a_row_without_an_answer_is_left_out(read, turns, reason) -> None:
    (left,) = read("slimorca", [{"conversations": turns}]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", reason, "conversations")


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"messages": [HUMAN, GPT]}, "missing column", " conversations"),
        ({"conversations": None}, "null value", " conversations"),
        ({"conversations": "Hi"}, "wrong type", " conversations"),
        ({"conversations": []}, "empty messages", " conversations"),
        ({"conversations": [HUMAN, GPT | {"value": None}]}, "null value", " conversations[1].value"),
        ({"conversations": [HUMAN, {"role": "gpt", "value": "Hello"}]}, "missing field", " conversations[1].from"),
        ({"conversations": [HUMAN, GPT | {"from": "orca"}]}, "unknown role", " conversations[1].from"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("slimorca", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
