"""ARC, OpenBookQA, MMLU, PIQA, WinoGrande and Belebele, which write their choices alike."""

import pytest

from poise.examples import Message
from poise.names import load_named

LABELLED = {"text": ["ice", "fire", "fog"], "label": ["A", "B", "C"]}
ROWS = {
    "ai2_arc": {"id": "1", "question": "What is hot?", "choices": LABELLED, "answerKey": "B"},
    "openbookqa": {"id": "1", "question_stem": "What is hot?", "choices": LABELLED, "answerKey": "B"},
    "mmlu": {"question": "What is hot?", "subject": "", "choices": ["ice", "fire", "fog"], "answer": 1},
    "piqa": {"goal": "Light a candle", "sol1": "with ice", "sol2": "with fire", "label": 1},
    "winogrande": {"sentence": "Ann fed Bo as _ was hungry.", "option1": "Ann", "option2": "Bo", "answer": "2"},
    "belebele": {
        "link": "https://example.org", "question_number": 1,
        "flores_passage": "Fire is hot.", "question": "What is hot?",
        "mc_answer1": "ice", "mc_answer2": "fire", "mc_answer3": "fog", "mc_answer4": "tea",
        "correct_answer_num": "2", "dialect": "eng_Latn", "ds": "2023-05-03",
    },
}  # fmt: skip
CHOICES = "What is hot?\nA. ice\nB. fire\nC. fog"
ASKED = {
    "ai2_arc": (CHOICES, "B. fire"),
    "openbookqa": (CHOICES, "B. fire"),
    "mmlu": (CHOICES, "B. fire"),
    "piqa": ("Light a candle\nA. with ice\nB. with fire", "B. with fire"),
    "winogrande": (
        "Which choice makes sense at the blank `_` of this sentence?\n\nAnn fed Bo as _ was hungry.\nA. Ann\nB. Bo",
        "B. Bo",
    ),
    "belebele": ("Fire is hot.\n\nWhat is hot?\nA. ice\nB. fire\nC. fog\nD. tea", "B. fire"),
}
SHARES = {"ai2_arc": 0.5, "openbookqa": 0.5, "mmlu": 0.5, "piqa": 0.25}
QUESTIONS = {"ai2_arc": "question", "openbookqa": "question_stem", "mmlu": "question", "piqa": "goal"}


@pytest.mark.parametrize("source", ROWS)
def test_the_choices_are_listed_and_the_right_line_is_the_answer(read, source) -> None:
    options = {"letter_only": 0} if source in SHARES else {}
    asked, answer = ASKED[source]
    (example,) = read(source, [ROWS[source]], **options).examples
    assert example.messages == (Message("user", asked), Message("assistant", answer))
    assert example.lineage == ("rows:1",)


@pytest.mark.parametrize("source", SHARES)
def test_asked_for_the_letter_alone_the_answer_is_the_letter(read, source) -> None:
    (example,) = read(source, [ROWS[source]], letter_only=1).examples
    asked = f"{ASKED[source][0]}\n\nAnswer with the letter of the right choice and nothing else."
    assert example.messages == (Message("user", asked), Message("assistant", "B"))


@pytest.mark.parametrize(
    ("source", "asked", "answer"),
    [("winogrande", "Ann fed Bo as _ was hungry.", "Bo"), ("belebele", "Fire is hot.\n\nWhat is hot?", "fire")],
)
def test_the_bare_form_shows_no_choices_and_is_answered_by_the_text(read, source, asked, answer) -> None:
    (example,) = read(source, [ROWS[source]], bare=True).examples
    assert example.messages == (Message("user", asked), Message("assistant", answer))


@pytest.mark.parametrize(("source", "share"), SHARES.items())
def test_the_letter_alone_is_asked_for_at_its_share_and_drawn_by_row_and_seed(read, source, share) -> None:
    rows = [ROWS[source] | {QUESTIONS[source]: f"question {number}"} for number in range(200)]
    drawn = [example.messages for example in read(source, rows).examples]
    letters = sum(messages[1].content == "B" for messages in drawn)
    assert abs(letters - 200 * share) < 4 * (200 * share * (1 - share)) ** 0.5
    assert drawn == [example.messages for example in read(source, rows[::-1]).examples][::-1]
    assert drawn != [example.messages for example in read(source, rows, seed=1).examples]


@pytest.mark.parametrize("source", ["ai2_arc", "openbookqa"])
def test_numbered_choices_get_letters(read, source) -> None:
    row = ROWS[source] | {"choices": LABELLED | {"label": ["1", "2", "3"]}, "answerKey": "2"}
    (example,) = read(source, [row], letter_only=0).examples
    assert example.messages == (Message("user", CHOICES), Message("assistant", "B. fire"))


@pytest.mark.parametrize(
    ("source", "changed", "reason", "evidence"),
    [
        ("ai2_arc", {"answerKey": ""}, "no answer", "answerKey"),
        ("openbookqa", {"choices": LABELLED | {"text": ["ice", " ", "fog"]}}, "empty completion", "choice B"),
        ("mmlu", {"answer": -1}, "no answer", "answer"),
        ("piqa", {"label": -1}, "no answer", "label"),
        ("winogrande", {"answer": ""}, "no answer", "answer"),
        ("belebele", {"mc_answer2": ""}, "empty completion", "choice B"),
    ],
)
def test_a_row_without_its_answer_is_left(read, source, changed, reason, evidence) -> None:
    found = read(source, [ROWS[source] | changed])
    assert [(left.place, left.reason, left.evidence) for left in found.left] == [("rows:1", reason, evidence)]
    assert not found.examples and not found.bad


@pytest.mark.parametrize(
    ("source", "changed", "reason", "where"),
    [
        ("ai2_arc", {"answerKey": "E"}, "unknown answer key", " answerKey"),
        ("ai2_arc", {"answerKey": None}, "null value", " answerKey"),
        ("ai2_arc", {"choices": {"text": ["ice"]}}, "missing field", " choices.label"),
        ("ai2_arc", {"choices": LABELLED | {"label": ["A", "B"]}}, "malformed choices", " choices"),
        ("openbookqa", {"answerKey": "E"}, "unknown answer key", " answerKey"),
        ("openbookqa", {"choices": None}, "null value", " choices"),
        ("openbookqa", {"choices": LABELLED | {"label": ["A", "B", "B"]}}, "malformed choices", " choices"),
        ("mmlu", {"answer": 3}, "unknown answer key", " answer"),
        ("mmlu", {"answer": "B"}, "wrong type", " answer"),
        ("mmlu", {"choices": ["ice", None]}, "null value", " choices[1]"),
        ("piqa", {"label": 2}, "unknown answer key", " label"),
        ("piqa", {"label": True}, "wrong type", " label"),
        ("piqa", {"sol2": None}, "null value", " sol2"),
        ("winogrande", {"answer": "3"}, "unknown answer key", " answer"),
        ("winogrande", {"answer": 2}, "wrong type", " answer"),
        ("winogrande", {"option1": None}, "null value", " option1"),
        ("belebele", {"correct_answer_num": "0"}, "unknown answer key", " correct_answer_num"),
        ("belebele", {"correct_answer_num": 2}, "wrong type", " correct_answer_num"),
        ("belebele", {"mc_answer4": None}, "null value", " mc_answer4"),
    ],
)
def test_a_row_that_breaks_its_schema_is_named(read, source, changed, reason, where) -> None:
    found = read(source, [ROWS[source], ROWS[source] | changed])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]


@pytest.mark.parametrize("source", ROWS)
def test_a_missing_column_is_named(read, source) -> None:
    for column in load_named("poise.catalog", source).ABOUT.columns:
        found = read(source, [{name: value for name, value in ROWS[source].items() if name != column}])
        assert [(bad.error.reason, bad.error.where) for bad in found.bad] == [("missing column", f" {column}")]


def test_evaluation_data_must_be_asked_for() -> None:
    asked_for = {source for source in ROWS if load_named("poise.catalog", source).ABOUT.opt_in}
    assert asked_for == {"belebele"}
    assert "evaluation data" in load_named("poise.catalog", "belebele").ABOUT.risk
