"""DROP."""

import pytest

from poise.examples import Message

ROW = {
    "section_id": "s", "query_id": "q", "passage": "Ann ran 3 km, Bo 5 km.", "question": "Who ran?",
    "answers_spans": {"spans": ["Ann", "Bo"], "types": ["span", "span"]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("question_first", "asked"),
    [(0, "Ann ran 3 km, Bo 5 km.\n\nWho ran?"), (1, "Who ran?\n\nAnn ran 3 km, Bo 5 km.")],
)
def test_a_brief_answer_is_asked_for_behind_or_before_the_passage(read, question_first, asked) -> None:
    (example,) = read("drop", [ROW], question_first=question_first).examples
    system, *turns = example.messages
    assert system.role == "system" and "brief" in system.content
    assert turns == [Message("user", asked), Message("assistant", "Ann, Bo")]
    assert example.lineage == ("rows:1",)


def test_half_of_the_questions_come_first_drawn_by_row_and_seed(read) -> None:
    rows = [ROW | {"question": f"Question {number}?"} for number in range(200)]
    drawn = [example.messages for example in read("drop", rows).examples]
    first = sum(messages[1].content.startswith("Question") for messages in drawn)
    assert abs(first - 100) < 28  # four standard deviations of 200 even coins
    assert drawn == [example.messages for example in read("drop", rows[::-1]).examples][::-1]
    assert drawn != [example.messages for example in read("drop", rows, seed=1).examples]


@pytest.mark.parametrize("spans", [[], [""], ["", ""]])
def test_a_question_without_an_answer_is_left(read, spans) -> None:
    found = read("drop", [ROW | {"answers_spans": {"spans": spans, "types": []}}])
    assert [(left.place, left.reason, left.evidence) for left in found.left] == [
        ("rows:1", "no answer", "answers_spans")
    ]


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({name: value for name, value in ROW.items() if name != "passage"}, "missing column", " passage"),
        (ROW | {"question": None}, "null value", " question"),
        (ROW | {"answers_spans": ["Ann"]}, "wrong type", " answers_spans"),
        (ROW | {"answers_spans": {"types": []}}, "missing field", " answers_spans.spans"),
        (ROW | {"answers_spans": {"spans": ["Ann", 3]}}, "wrong type", " answers_spans.spans[1]"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("drop", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
