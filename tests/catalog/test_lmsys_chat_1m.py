"""LMSYS-Chat-1M, as conversations and as pairs."""

from itertools import permutations
from typing import Any

import pytest

from poise.examples import Conversation, Message, PreferencePair
from poise.sources.dataset import Left


def chat(model: str, *texts: str, **columns: Any) -> dict[str, Any]:
    turns = [{"content": text, "role": ("user", "assistant")[index % 2]} for index, text in enumerate(texts)]
    return {
        "conversation_id": f"{model} {texts}",
        "model": model,
        "conversation": turns,
        "turn": len(texts) // 2,
        "language": "English",
        "openai_moderation": [{"categories": {"hate": False}, "category_scores": {"hate": 0.1}, "flagged": False}],
        "redacted": False,
    } | columns


GPT_4 = chat("gpt-4", "Hi", "Hello!")
VICUNA = chat("vicuna-13b", "Hi", "Yo")
FLAGGED = {"openai_moderation": [{"flagged": False}, {"flagged": True}]}
HI = (Message("user", "Hi"),)
HELLO = (Message("assistant", "Hello!"),)


def test_chats_with_gpt_4_keep_all_their_turns(read) -> None:
    found = read("lmsys_chat_1m", [chat("gpt-4", "Hi", "Hello!", "Bye", "Goodbye!"), VICUNA])
    goodbye = (Message("user", "Bye"), Message("assistant", "Goodbye!"))
    assert found.examples == [Conversation((*HI, *HELLO, *goodbye), lineage=("rows:1",))]
    assert found.left == [Left("rows:2", "another model", "vicuna-13b")]


@pytest.mark.parametrize(
    ("options", "columns", "left"),
    [
        ({"model": "vicuna-13b"}, {}, Left("rows:1", "another model", "gpt-4")),
        ({}, {"language": "French"}, None),
        ({"language": "English"}, {}, None),
        ({"language": "English"}, {"language": "French"}, Left("rows:1", "another language", "French")),
        ({}, FLAGGED, None),
        ({"drop_flagged": True}, {}, None),
        ({"drop_flagged": True}, FLAGGED, Left("rows:1", "flagged by moderation", "openai_moderation")),
        ({}, {"redacted": True}, None),
        ({"drop_redacted": True}, {"redacted": True}, Left("rows:1", "redacted", "redacted")),
        (
            {},
            {"conversation": [{"content": "Hi", "role": "user"}]},
            Left("rows:1", "no assistant turn", "conversation"),
        ),
    ],
)
def test_options_say_which_chats_are_left(read, options, columns, left) -> None:
    found = read("lmsys_chat_1m", [GPT_4 | columns], **options)
    assert (len(found.examples), found.left) == ((0, [left]) if left else (1, []))


def test_gpt_4_is_chosen_over_the_open_model_asked_the_same(read) -> None:
    found = read("lmsys_chat_1m_pairs", [VICUNA, chat("gpt-4", "Bye", "Goodbye!"), GPT_4])
    yo = (Message("assistant", "Yo"),)
    assert found.examples == [PreferencePair(HI, HELLO, yo, lineage=("rows:3", "rows:1"))]
    assert found.left == [Left("rows:2", "no open model was asked the same")]


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("vicuna-7b", "vicuna-13b"),
        ("vicuna-13b", "vicuna-33b"),
        ("chatglm-6b", "llama-2-7b-chat"),
        ("gpt4all-13b-snoozy", "RWKV-4-Raven-14B"),
        ("stablelm-tuned-alpha-7b", "oasst-pythia-12b"),
    ],
)
def test_the_largest_open_model_is_rejected(read, smaller, larger) -> None:
    rows = [chat(smaller, "Hi", "small"), GPT_4, chat(larger, "Hi", "large")]
    found = read("lmsys_chat_1m_pairs", rows)
    assert [pair.rejected[0].content for pair in found.examples] == ["large"]
    assert found.left == [Left("rows:1", "another answer was taken")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (chat("vicuna-13b", "Hey", "Yo"), "gpt-4 was not asked the same"),
        (chat("claude-2", "Hi", "Yo"), "a model of unknown size"),
        (chat("gpt-3.5-turbo", "Hi", "Yo"), "a model of unknown size"),
        (chat("vicuna-13b", "Hi", "Yo", "Bye", "Yes"), "not one question and one answer"),
        (chat("vicuna-13b", "Hi", " "), "empty completion"),
        (chat("vicuna-13b", "Hi", "Hello!"), "chosen equals rejected"),
    ],
)
def test_rows_that_make_no_pair_are_left(read, row, reason) -> None:
    found = read("lmsys_chat_1m_pairs", [GPT_4, row])
    assert not found.examples
    assert ("rows:2", reason) in [(each.place, each.reason) for each in found.left]
    assert {each.place for each in found.left} == {"rows:1", "rows:2"}


def test_the_order_of_rows_changes_no_pair(read) -> None:
    rows = [GPT_4, chat("gpt-4", "Hi", "Hi there"), VICUNA, chat("koala-13b", "Hi", "Hm"), chat("llama-7b", "Hi", "?")]
    expected = {pair.id for pair in read("lmsys_chat_1m_pairs", rows).examples}
    assert len(expected) == 1
    for shuffled in permutations(rows):
        found = read("lmsys_chat_1m_pairs", shuffled)
        assert {pair.id for pair in found.examples} == expected
        assert [each.reason for each in found.left] == ["another answer was taken"] * 3


@pytest.mark.parametrize("source", ["lmsys_chat_1m", "lmsys_chat_1m_pairs"])
@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"model": "gpt-4"}, "missing column", " conversation"),
        (GPT_4 | {"model": None}, "null value", " model"),
        (GPT_4 | {"conversation": [{"content": "Hi", "role": "alien"}]}, "unknown role", " conversation[0].role"),
        (GPT_4 | {"conversation": "Hi"}, "wrong type", " conversation"),
    ],
)
def test_a_row_of_another_schema_is_named(read, source, row, reason, where) -> None:
    found = read(source, [GPT_4, VICUNA, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:3", reason, where)]
