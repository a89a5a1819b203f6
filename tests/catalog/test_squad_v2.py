"""SQuAD 2.0."""

from collections import Counter

import pytest

from poise.catalog.squad_v2 import UNANSWERABLE
from poise.examples import Message

ROW = {
    "id": "1", "title": "Sky", "context": "The sky is deep blue.", "question": "How is the sky?",
    "answers": {"text": ["deep blue", "blue"], "answer_start": [11, 16]},
}  # fmt: skip
UNANSWERED = ROW | {"answers": {"text": [], "answer_start": []}}


def test_the_first_answer_is_given_and_the_instruction_names_the_phrase_for_none(read) -> None:
    (example,) = read("squad_v2", [ROW]).examples
    user, assistant = example.messages
    phrase = next(each for each in UNANSWERABLE if each in user.content)
    assert user == Message(
        "user",
        "Answer the question with words taken from the passage. If the passage does not hold the answer, reply with "
        f"exactly this: {phrase}\n\nThe sky is deep blue.\n\nHow is the sky?",
    )
    assert assistant == Message("assistant", "deep blue")
    assert example.lineage == ("rows:1",)


def test_without_an_answer_the_phrase_of_the_instruction_is_given(read) -> None:
    (example,) = read("squad_v2", [UNANSWERED]).examples
    instruction = example.messages[0].content.partition("\n")[0]
    assert example.messages[1].content in UNANSWERABLE
    assert instruction.endswith(f": {example.messages[1].content}")


def test_every_phrase_is_given_as_often_drawn_by_row_and_seed(read) -> None:
    rows = [UNANSWERED | {"question": f"Question {number}?"} for number in range(200)]
    drawn = [example.messages[1].content for example in read("squad_v2", rows).examples]
    counts = Counter(drawn)
    assert set(counts) == set(UNANSWERABLE) and len(UNANSWERABLE) == 5
    assert all(abs(count - 40) < 23 for count in counts.values())  # four standard deviations of 200 draws at 1/5
    assert drawn == [example.messages[1].content for example in read("squad_v2", rows[::-1]).examples][::-1]
    assert drawn != [example.messages[1].content for example in read("squad_v2", rows, seed=1).examples]


def test_either_kind_can_be_read_alone(read) -> None:
    kept = read("squad_v2", [ROW, UNANSWERED], only="answerable")
    assert [example.lineage for example in kept.examples] == [("rows:1",)]
    assert [(left.place, left.reason) for left in kept.left] == [("rows:2", "unanswerable question")]
    kept = read("squad_v2", [ROW, UNANSWERED], only="unanswerable")
    assert [example.lineage for example in kept.examples] == [("rows:2",)]
    assert [(left.place, left.reason) for left in kept.left] == [("rows:1", "answerable question")]


def test_an_empty_answer_is_left(read) -> None:
    found = read("squad_v2", [ROW | {"answers": {"text": [" "], "answer_start": [0]}}])
    assert [(left.place, left.reason, left.evidence) for left in found.left] == [
        ("rows:1", "empty completion", "answers.text")
    ]


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({name: value for name, value in ROW.items() if name != "context"}, "missing column", " context"),
        (ROW | {"question": None}, "null value", " question"),
        (ROW | {"answers": "deep blue"}, "wrong type", " answers"),
        (ROW | {"answers": {"answer_start": [11]}}, "missing field", " answers.text"),
        (ROW | {"answers": {"text": [None]}}, "null value", " answers.text[0]"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("squad_v2", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
