"""A conversation in which a question can have two answers."""

import pytest

from poise.chat.talk import NotNow, Said, Talk
from poise.examples import Message


def talk() -> Talk:
    made = Talk(system="Be brief.")
    made.ask("one?")
    made.answered(Said("a", "left one"), Said("b", "right one"))
    return made


def contents(messages: tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages]


def test_left_goes_on_until_right_is_preferred() -> None:
    made = talk()
    assert contents(made.messages()) == ["Be brief.", "one?", "left one"]
    row = made.prefer("right")
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one?"}]
    assert (row["chosen"][0]["content"], row["chosen_model"]) == ("right one", "b")
    assert (row["rejected"][0]["content"], row["rejected_model"]) == ("left one", "a")
    made.ask("two?")
    assert contents(made.prompt()) == ["Be brief.", "one?", "right one", "two?"]


def test_a_second_answer_of_one_model_stands_right_of_the_first() -> None:
    made = Talk()
    made.ask("one?")
    made.answered(Said("a", "first"))
    with pytest.raises(NotNow, match="no two answers"):
        made.prefer("left")
    made.answered_again(Said("a", "second"))
    assert contents(made.messages()) == ["one?", "second"]
    made.answered_again(Said("a", "third"))
    assert made.prefer("left")["rejected"][0]["content"] == "third"
    assert contents(made.messages()) == ["one?", "second"]


def test_undo_takes_a_question_back_with_its_answers() -> None:
    made = talk()
    made.ask("two?")
    made.answered(Said("a", "2"))
    made.undo()
    assert contents(made.messages()) == ["Be brief.", "one?", "left one"]
    made.undo()
    assert contents(made.messages()) == ["Be brief."]
    with pytest.raises(NotNow, match="nothing has been asked"):
        made.undo()


def test_what_says_nothing_is_not_kept() -> None:
    made = Talk()
    with pytest.raises(NotNow, match="nothing has been answered"):
        made.row()
    made.ask("one?")
    made.answered(Said("a", "same"), Said("b", "same"))
    with pytest.raises(NotNow, match="both answers are the same"):
        made.prefer("left")
    with pytest.raises(NotNow, match="/prefer left or /prefer right"):
        made.prefer("middle")
