"""Rows say by two columns in which template they are trained, and whether their last answer alone is."""

from collections.abc import Callable
from typing import Any

import pytest

from poise.errors import DataError
from poise.examples import Conversation, Document, PreferencePair
from poise.sources import SourceSpec, load

Write = Callable[..., str]
ASKED = {"prompt": "Hi", "completion": "Hello."}


def test_a_row_s_template_and_trained_answers_are_read(jsonl: Write) -> None:
    rows = [{"chat_template": "chatml", "trained_answers": "last"}, {"chat_template": "tokenizer"}, {}]
    found = load(SourceSpec(jsonl(*(ASKED | row for row in rows)))).examples
    forms = [(each.template, each.trained) for each in found if isinstance(each, Conversation)]
    assert forms == [("chatml", "last"), ("tokenizer", "all"), ("", "all")]


def test_null_says_nothing(jsonl: Write) -> None:
    (example,) = load(SourceSpec(jsonl(ASKED | {"chat_template": None, "trained_answers": None}))).examples
    assert isinstance(example, Conversation)
    assert (example.template, example.trained) == ("", "all")


def test_variables_for_the_template_are_refused_unless_they_say_nothing(jsonl: Write) -> None:
    empty = {"chat_template_kwargs": {"custom_instructions": "", "enable_thinking": None, "xml_tools": []}}
    assert len(load(SourceSpec(jsonl(ASKED | empty, ASKED | {"chat_template_kwargs": None}))).examples) == 2
    path = jsonl(ASKED | {"chat_template_kwargs": {"enable_thinking": False}})
    with pytest.raises(DataError, match=r"data\.jsonl:1 chat_template_kwargs: gives the chat template \{'enable"):
        load(SourceSpec(path))
    assert load(SourceSpec(path, columns=("prompt", "completion"))).examples


@pytest.mark.parametrize("tools", [[{"type": "function", "function": {"name": "search"}}], '[{"name": "search"}]'])
def test_tools_that_a_template_would_be_given_are_refused(jsonl: Any, tools: Any) -> None:
    assert (
        len(load(SourceSpec(jsonl(ASKED | {"tools": []}, ASKED | {"tools": "[]"}, ASKED | {"tools": None}))).examples)
        == 3
    )
    path = jsonl(ASKED | {"tools": tools})
    with pytest.raises(DataError, match=r"data\.jsonl:1 tools: gives the chat template"):
        load(SourceSpec(path))
    assert len(load(SourceSpec(path, columns=("prompt", "completion"))).examples) == 1


def test_a_pair_has_a_template_and_a_document_none(jsonl: Write) -> None:
    pair = {"prompt": "Hi", "chosen": "Hello.", "rejected": "No.", "chat_template": "vicuna"}
    (example,) = load(SourceSpec(jsonl(pair))).examples
    assert isinstance(example, PreferencePair)
    assert example.template == "vicuna"
    (text,) = load(SourceSpec(jsonl({"text": "a", "chat_template": "vicuna"}))).examples
    assert text == Document("a", text.source, text.lineage)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ({"chat_template": "chatlm"}, "'chatlm' is none of .*did you mean 'chatml'"),
        ({"chat_template": ["chatml"]}, "is none of"),
        ({"trained_answers": "first"}, "'first' is none of all, last"),
    ],
)
def test_a_form_that_is_not_known_is_refused_unless_the_column_is_left_out(
    jsonl: Write, column: dict[str, Any], told: str
) -> None:
    path = jsonl(ASKED | column)
    with pytest.raises(DataError, match=told):
        load(SourceSpec(path))
    (example,) = load(SourceSpec(path, columns=("prompt", "completion"))).examples
    assert isinstance(example, Conversation)
    assert (example.template, example.trained) == ("", "all")
