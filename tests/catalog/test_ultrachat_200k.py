"""UltraChat 200k."""

import pytest

from poise.examples import Conversation, Message
from poise.sources.dataset import Left

TURNS = [{"content": "Hi", "role": "user"}, {"content": "Hello!", "role": "assistant"}]
ROW = {"prompt": "Hi", "prompt_id": "1", "messages": TURNS}


def test_a_chat_is_taken_as_it_is(read) -> None:
    expected = Conversation((Message("user", "Hi"), Message("assistant", "Hello!")), lineage=("rows:1",))
    assert read("ultrachat_200k", [ROW]).examples == [expected]


def test_a_chat_without_an_answer_is_left(read) -> None:
    found = read("ultrachat_200k", [ROW | {"messages": TURNS[:1]}])
    assert found.left == [Left("rows:1", "no assistant turn", "messages")]


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"prompt": "Hi"}, "missing column", " messages"),
        (ROW | {"messages": [TURNS[0], {"content": None, "role": "assistant"}]}, "null value", " messages[1].content"),
        (ROW | {"messages": [{"content": "Hi", "role": "alien"}]}, "unknown role", " messages[0].role"),
        (ROW | {"messages": []}, "empty messages", " messages"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("ultrachat_200k", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
