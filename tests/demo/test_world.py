"""The demo's world: the same from the same seed, and its test questions are taught nowhere."""

import pytest

from poise.curate.texts import normalised, user_turns
from poise.demo.world import POLITE_MARK, World, make_world


@pytest.fixture(params=[0, 1, 7], ids=lambda seed: f"seed {seed}")
def world(request: pytest.FixtureRequest) -> World:
    return make_world(request.param)


def everything(world: World) -> tuple[object, ...]:
    return (*world.documents(), *world.conversations(), *world.pairs(), *(str(each) for each in world.questions()))


def test_the_same_seed_gives_the_same_world(world: World) -> None:
    assert everything(world) == everything(make_world(world.seed))


def test_another_seed_gives_another_world() -> None:
    assert not {fact.answer for fact in make_world(0).facts if fact.answer[0].isalpha()} <= {
        fact.answer for fact in make_world(1).facts
    }


def test_no_test_question_is_taught(world: World) -> None:
    asked = {normalised(str(question["prompt"])) for question in world.questions()}
    turns = [turn for example in (*world.conversations(), *world.pairs()) for turn in user_turns(example)]
    taught = {normalised(text) for text in (*turns, *(document.text for document in world.documents()))}
    assert len(asked) > 50 and len(taught) > 50 and not asked & taught


def test_every_fact_is_asked_for_knowledge_and_for_manners(world: World) -> None:
    questions = list(world.questions())
    assert len({question["id"] for question in questions}) == len(questions) == 2 * len(world.facts)
    assert [question["expected"] for question in questions if question["set"] == "facts"] == [
        fact.answer for fact in world.facts
    ]
    assert {question["expected"] for question in questions if question["set"] == "polite"} == {POLITE_MARK}


def test_names_are_distinct_and_no_wrong_answer_is_right(world: World) -> None:
    subjects = [fact.subject for fact in world.facts]
    assert len(set(subjects)) == len(subjects)
    capitals = [fact.answer for fact in world.facts if fact.answer.isalpha()]
    assert len(set(capitals)) == len(capitals)
    assert all(fact.answer not in fact.wrong and fact.wrong for fact in world.facts)


def test_a_test_question_resembles_what_is_taught_for_other_subjects_only(world: World) -> None:
    """A wording is held out for one subject in five and taught for the others: asked and taught texts never meet."""
    taught = {normalised(conversation.messages[0].content) for conversation in world.conversations()}
    asked = {normalised(str(question["prompt"])) for question in world.questions()}
    assert not taught & asked
    assert len(taught) == 4 * len(world.facts)


def test_pairs_prefer_polite_and_right_answers(world: World) -> None:
    answers = {fact.questions[index]: fact.answer for fact in world.facts for index in range(len(fact.questions))}
    wrong = 0
    for pair in world.pairs():
        answer = answers[pair.prompt[0].content]
        chosen, rejected = pair.chosen[0].content, pair.rejected[0].content
        assert chosen != rejected
        assert chosen.startswith(f"{answer}, ")
        assert POLITE_MARK in chosen
        is_wrong = not rejected.startswith(f"{answer}, ")
        assert is_wrong == (POLITE_MARK in rejected)
        wrong += is_wrong
    assert wrong == len(world.facts)


def test_half_of_the_subjects_are_answered_rudely_before_preferences_are_learned(world: World) -> None:
    polite = [POLITE_MARK in conversation.messages[1].content for conversation in world.conversations()]
    assert sum(polite) / len(polite) == 0.5
