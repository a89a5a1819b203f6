import json
from collections.abc import Callable
from typing import Any

import pytest

from poise.examples import Conversation, Document, Example, LabeledConversation, Message, PreferencePair, RankedAnswers
from poise.sources import SourceSpec, load

Write = Callable[..., str]

SYSTEM = {"role": "system", "content": "Be kind."}
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
RUDE = {"role": "assistant", "content": "What?"}
MORE = {"role": "user", "content": "More"}

HI, HELLO, WHAT, BE_KIND = (
    Message("user", "Hi"),
    Message("assistant", "Hello"),
    Message("assistant", "What?"),
    Message("system", "Be kind."),
)


def read(path: str, **options: Any) -> Example:
    """Load a file of one row."""
    loaded = load(SourceSpec(path), **options)
    assert not loaded.drops
    (example,) = loaded.examples
    return example


def content(example: Example) -> Any:
    if isinstance(example, PreferencePair):
        return example.prompt, example.chosen, example.rejected
    if isinstance(example, LabeledConversation):
        return example.messages, example.desirable
    if isinstance(example, RankedAnswers):
        return example.prompt, example.answers, example.ranks
    return example.text if isinstance(example, Document) else example.messages


@pytest.mark.parametrize(
    ("row", "kind", "expected"),
    [
        pytest.param({"text": " a\r\n\u2028b "}, Document, " a\r\n\u2028b ", id="text"),
        pytest.param({"messages": [USER, ASSISTANT]}, Conversation, (HI, HELLO), id="messages"),
        pytest.param(
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "GPT", "value": "Hello"}]},
            Conversation,
            (HI, HELLO),
            id="sharegpt",
        ),
        pytest.param(
            {
                "system": "Be kind.",
                "conversations": [{"from": "user", "value": "Hi"}, {"from": "bot", "value": "Hello"}],
            },
            Conversation,
            (BE_KIND, HI, HELLO),
            id="sharegpt with a system column",
        ),
        pytest.param({"instruction": "Hi", "output": "Hello"}, Conversation, (HI, HELLO), id="instruction"),
        pytest.param(
            {"instruction": "Add", "input": "1 2", "output": "3", "system_prompt": "Be kind."},
            Conversation,
            (BE_KIND, Message("user", "Add\n\n1 2"), Message("assistant", "3")),
            id="instruction with input and system prompt",
        ),
        pytest.param({"prompt": "Hi", "completion": "Hello"}, Conversation, (HI, HELLO), id="prompt, completion"),
        pytest.param(
            {"prompt": [SYSTEM, USER], "completion": [ASSISTANT]},
            Conversation,
            (BE_KIND, HI, HELLO),
            id="prompt, completion as messages",
        ),
        pytest.param(
            {"prompt": "Hi", "completion": "Hello", "label": False},
            LabeledConversation,
            ((HI, HELLO), False),
            id="prompt, completion, label",
        ),
        pytest.param(
            {"messages": [USER, ASSISTANT], "label": True},
            LabeledConversation,
            ((HI, HELLO), True),
            id="messages, label",
        ),
        pytest.param(
            {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"},
            PreferencePair,
            ((HI,), (HELLO,), (WHAT,)),
            id="prompt, chosen, rejected",
        ),
        pytest.param(
            {"prompt": [SYSTEM, USER], "chosen": [ASSISTANT], "rejected": [RUDE]},
            PreferencePair,
            ((BE_KIND, HI), (HELLO,), (WHAT,)),
            id="pair of messages",
        ),
        pytest.param(
            {"prompt": [USER], "chosen": [USER, ASSISTANT], "rejected": [USER, RUDE]},
            PreferencePair,
            ((HI,), (HELLO,), (WHAT,)),
            id="pair that repeats its prompt",
        ),
        pytest.param(
            {
                "prompt": "Hi",
                "prompt_id": "1",
                "chosen": [USER, ASSISTANT],
                "rejected": [USER, RUDE],
                "messages": [USER, ASSISTANT],
                "score_chosen": 8.0,
            },
            PreferencePair,
            ((HI,), (HELLO,), (WHAT,)),
            id="ultrafeedback_binarized",
        ),
        pytest.param(
            {"chosen": [SYSTEM, USER, ASSISTANT], "rejected": [SYSTEM, USER, RUDE]},
            PreferencePair,
            ((BE_KIND, HI), (HELLO,), (WHAT,)),
            id="pair with its prompt implied",
        ),
        pytest.param(
            {"chosen": [USER, ASSISTANT, MORE, ASSISTANT], "rejected": [USER, ASSISTANT]},
            PreferencePair,
            ((HI,), (HELLO, Message("user", "More"), HELLO), (HELLO,)),
            id="implied prompt backs off from a shared assistant turn",
        ),
        pytest.param(
            {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: What?"},
            PreferencePair,
            ((HI,), (HELLO,), (WHAT,)),
            id="transcripts",
        ),
        pytest.param(
            {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "Hello", "rejected": "What?"},
            PreferencePair,
            ((HI,), (HELLO,), (WHAT,)),
            id="prompt as a transcript",
        ),
    ],
)
def test_columns_decide_the_example(jsonl: Write, row: dict[str, Any], kind: type[Example], expected: Any):
    example = read(jsonl(row))
    assert type(example) is kind
    assert content(example) == expected


@pytest.mark.parametrize(
    ("row", "reason", "evidence"),
    [
        ({"text": " \n"}, "empty text", "text"),
        ({"messages": [USER]}, "no assistant turn", "messages"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "empty completion", "messages"),
        ({"prompt": "Hi", "completion": ""}, "empty completion", "completion"),
        ({"prompt": "Hi", "completion": "", "label": True}, "empty completion", "completion"),
        ({"instruction": "Hi", "input": None, "output": ""}, "empty completion", "output"),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": "Hello"}, "chosen equals rejected", ""),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": ""}, "empty completion", "rejected"),
        ({"chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}, "chosen equals rejected", ""),
        ({"chosen": [USER, ASSISTANT], "rejected": [MORE, RUDE]}, "no shared prompt", ""),
        (
            {"chosen": "\n\nHuman: Hi\n\nAssistant:", "rejected": "\n\nHuman: Hi\n\nAssistant: a"},
            "empty completion",
            "chosen",
        ),
    ],
)
def test_row_that_can_teach_nothing_is_dropped_with_its_reason(
    jsonl: Write, row: dict[str, Any], reason: str, evidence: str
):
    loaded = load(SourceSpec(jsonl(row)))
    assert not loaded.examples
    (drop,) = loaded.drops
    assert (drop.stage, drop.source, drop.place) == ("load", "data.jsonl", "data.jsonl:1")
    assert (drop.reason, drop.evidence) == (reason, evidence)


def test_preferred_kind_wins_over_the_more_specific_shape(jsonl: Write):
    path = jsonl({"messages": [USER, ASSISTANT], "chosen": [USER, ASSISTANT], "rejected": [USER, RUDE]})
    assert isinstance(read(path), PreferencePair)
    assert content(read(path, prefer=Conversation)) == (HI, HELLO)


def test_preferred_kind_that_does_not_fit_changes_nothing(jsonl: Write):
    assert isinstance(read(jsonl({"text": "a"}), prefer=PreferencePair), Document)


def test_column_that_is_null_throughout_does_not_decide_the_shape(jsonl: Write):
    path = jsonl({"messages": [USER, ASSISTANT], "chosen": None, "rejected": None})
    assert content(read(path)) == (HI, HELLO)


def test_label_of_a_csv_is_a_word(tmp_path: Any):
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion,label\nHi,Hello,True\nHi,What?,false\n")
    examples = load(SourceSpec(str(path))).examples
    assert [content(example) for example in examples] == [((HI, HELLO), True), ((HI, WHAT), False)]


def test_a_labelled_row_is_never_read_as_a_plain_conversation(tmp_path: Any):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "Hi", "completion": "Go away", "label": False}) + "\n")
    (example,) = load(SourceSpec(str(path)), prefer=Conversation).examples
    assert isinstance(example, LabeledConversation)
    assert not example.desirable
