"""UltraFeedback in pairs: AllenAI's cleaned set and the one that Zephyr was trained on."""

import pytest

from poise.examples import Message, PreferencePair
from poise.sources.dataset import Left


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"content": text, "role": ("user", "assistant")[index % 2]} for index, text in enumerate(texts)]


ROW = {
    "prompt": "Hi",
    "prompt_id": "1",
    "chosen": turns("Hi", "Hello!"),
    "rejected": turns("Hi", "What?"),
    "messages": turns("Hi", "Hello!"),
    "score_chosen": 8.0,
    "score_rejected": 3.0,
    "source": "sharegpt",
}
BOTH = pytest.mark.parametrize("source", ["ultrafeedback", "ultrafeedback_binarized"])


@BOTH
def test_the_shared_question_is_the_prompt(read, source) -> None:
    prompt, chosen, rejected = Message("user", "Hi"), Message("assistant", "Hello!"), Message("assistant", "What?")
    assert read(source, [ROW]).examples == [PreferencePair((prompt,), (chosen,), (rejected,), lineage=("rows:1",))]


@pytest.mark.parametrize(
    ("change", "reason", "evidence"),
    [
        ({"score_chosen": 7.5}, "score too low", "score_chosen 7.5"),
        ({"rejected": turns("Hi", "What?", "I said hi", "Oh")}, "not one question and one answer", "rejected"),
        ({"chosen": turns("Hi", "WHAT?")}, "chosen equals rejected", ""),
        ({"chosen": turns("Hey", "Hello!")}, "no shared prompt", ""),
        ({"rejected": turns("Hi", "")}, "empty completion", "rejected"),
    ],
)
def test_a_pair_of_the_cleaned_set_is_left(read, change, reason, evidence) -> None:
    assert read("ultrafeedback", [ROW | change]).left == [Left("rows:1", reason, evidence)]


def test_the_least_score_is_an_option(read) -> None:
    assert len(read("ultrafeedback", [ROW | {"score_chosen": 7.5}], min_score=7.5).examples) == 1


def test_a_pair_of_the_binarized_set_may_score_low_and_hold_several_turns(read) -> None:
    row = ROW | {"chosen": turns("Hi", "Hello!", "Bye", "Goodbye!"), "rejected": turns("Hi", "Hello!", "Bye", "Yes?")}
    (pair,) = read("ultrafeedback_binarized", [row | {"score_chosen": 1}]).examples
    assert [message.content for message in pair.prompt] == ["Hi", "Hello!", "Bye"]


@BOTH
@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"prompt": "Hi"}, "missing column", " chosen"),
        (ROW | {"rejected": None}, "null value", " rejected"),
        (ROW | {"chosen": [{"content": None, "role": "user"}]}, "null value", " chosen[0].content"),
        (ROW | {"chosen": [{"content": "Hi", "role": "alien"}]}, "unknown role", " chosen[0].role"),
    ],
)
def test_a_row_of_another_schema_is_named(read, source, row, reason, where) -> None:
    found = read(source, [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
