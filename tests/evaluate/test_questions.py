"""Questions: which files are refused, how an answer is scored, which prompts are taken from data."""

import json
from pathlib import Path

import pytest

from poise.errors import DataError
from poise.evaluate.questions import Question, load_questions, questions_from
from poise.examples import Conversation, Document, LabeledConversation, Message, PreferencePair


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_prompt_is_a_user_turn_a_list_of_turns_or_a_text(tmp_path: Path) -> None:
    file = write(
        tmp_path / "questions.jsonl",
        {"id": "a", "set": "facts", "prompt": "2 and 2?", "expected": ["4", "four"]},
        "",
        {
            "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 and 2?"}],
            "expected": 4,
        },
        {"text": "Two and two are\u2028"},
    )
    assert load_questions(file) == [
        Question("a", "facts", (Message("user", "2 and 2?"),), "", ("4", "four")),
        Question("3", "questions", (Message("system", "Be brief."), Message("user", "2 and 2?")), "", ("4",)),
        Question("4", "questions", (), "Two and two are\u2028", ()),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "Expecting property name"),
        ("[1]", "no JSON object"),
        ("7", "no JSON object"),
        ({"id": 1}, "neither prompt nor text"),
        ({"prompt": 7}, "prompt is a text or a list of turns"),
        ({"prompt": [{"content": "no role"}]}, "a role"),
        ({"prompt": [{"role": "wizard", "content": "?"}]}, "a role"),
        ({"prompt": [{"role": "user", "content": None}]}, "a text as content"),
        ({"prompt": ["just text"]}, "a role"),
        ({"prompt": "x", "expected": {"is": "y"}}, "expected is a word or phrase"),
        ({"prompt": "x", "expected": [None]}, "expected is a word or phrase"),
        ({"prompt": "x", "expected": [" "]}, "expected is a word or phrase"),
    ],
)
def test_every_broken_line_is_named(line: object, told: str, tmp_path: Path) -> None:
    file = write(tmp_path / "questions.jsonl", {"prompt": "good"}, line, {"prompt": "good"}, line)
    with pytest.raises(DataError) as caught:
        load_questions(file)
    for number in (2, 4):
        assert f"questions.jsonl:{number}: not a question" in str(caught.value)
    assert told in str(caught.value)
    assert "questions.jsonl:1" not in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_bytes(b'{"prompt": "good"}\n{"prompt": "\xff"}\n')
    with pytest.raises(DataError, match=r"questions\.jsonl:2"):
        load_questions(tmp_path / "questions.jsonl")


@pytest.mark.parametrize("content", [None, "", "\n\n"])
def test_a_file_without_questions_is_refused(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=r"questions\.jsonl"):
        load_questions(file)


@pytest.mark.parametrize(
    ("expected", "answer", "score"),
    [
        (("Paris",), "It is paris.", 1),
        (("Paris",), "Parisian", 0),
        (("Paris",), "comparison", 0),
        (("12",), "12.", 1),
        (("12",), "112", 0),
        (("12",), "121", 0),
        (("thank you",), "Oh, thank you!", 1),
        (("thank you",), "thank-you", 0),
        (("a+b", "C++"), "written in C++ today", 1),
        (("naïve",), "NAÏVE", 1),
        (("yes", "no"), "nothing", 0),
        (("yes", "no"), "No", 1),
    ],
)
def test_an_expected_phrase_counts_as_whole_words_only(expected: tuple[str, ...], answer: str, score: float) -> None:
    assert Question("q", "s", expected=expected).score(answer) == score


def test_a_question_without_an_expected_answer_is_not_scored() -> None:
    assert Question("q", "s").score("anything") is None


def test_prompts_are_taken_from_every_kind_of_row_whatever_its_order() -> None:
    ask, reply = Message("user", "Hi"), Message("assistant", "Hello")
    examples = [
        Document(" ".join(f"word{index}" for index in range(40))),
        Conversation((Message("system", "Be kind."), ask, reply, ask, reply)),
        PreferencePair((ask,), (reply,), (Message("assistant", "No"),)),
        LabeledConversation((ask, reply), desirable=True),
    ]
    questions = questions_from(examples, 10)
    assert questions == questions_from(examples[::-1], 10)
    assert {question.text.count(" ") for question in questions if question.text} == {11}
    assert {question.prompt for question in questions if question.prompt} == {
        (Message("system", "Be kind."), ask),
        (ask,),
    }


def test_equal_prompts_are_asked_once_and_no_more_than_wanted() -> None:
    pairs = [
        PreferencePair((Message("user", str(index // 2)),), (Message("assistant", str(index)),), ())
        for index in range(10)
    ]
    assert len(questions_from(pairs, 100)) == 5
    assert len(questions_from(pairs, 3)) == 3
    assert questions_from(pairs, 0) == []


def test_rows_that_cannot_be_asked_are_passed_over() -> None:
    pairs = [PreferencePair((Message("user", str(index)),), (), ()) for index in range(10)]
    asked = questions_from(pairs, 3, lambda pair: pair != pairs[4])
    assert len(asked) == 3
    assert Message("user", "4") not in [
        question.prompt[0] for question in questions_from(pairs, 10, lambda pair: pair != pairs[4])
    ]
