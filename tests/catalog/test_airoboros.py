"""Airoboros, and its newer answers against older ones."""

from itertools import permutations

import pytest

from poise.examples import Conversation, Message, PreferencePair
from poise.sources.dataset import Left

SYSTEM = {"from": "system", "value": "You are a poet."}
ASKED = {"from": "human", "value": " Write on RAIN.\n"}
ANSWERED = {"from": "gpt", "value": "Grey fingers drum."}
NEW = {"id": "1", "conversations": [SYSTEM, ASKED, ANSWERED], "category": "writing"}
OLD = {"instruction": "write on rain.", "response": "It rains.", "category": "writing"}

PROMPT = (Message("system", "You are a poet."), Message("user", " Write on RAIN.\n"))
CHOSEN, REJECTED = (Message("assistant", "Grey fingers drum."),), (Message("assistant", "It rains."),)


def test_a_conversation_keeps_its_system_turn(read) -> None:
    assert read("airoboros", [NEW]).examples == [Conversation((*PROMPT, *CHOSEN), lineage=("rows:1",))]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [([SYSTEM, ASKED], "no assistant turn"), ([ASKED, ANSWERED | {"value": " "}], "empty completion")],
)
def test_a_conversation_without_an_answer_is_left(read, turns, reason) -> None:
    assert read("airoboros", [NEW | {"conversations": turns}]).left == [Left("rows:1", reason, "conversations")]


def test_a_longer_newer_answer_is_chosen_over_the_older_one(read) -> None:
    found = read("airoboros_pairs", [NEW], others=[OLD])
    assert found.examples == [PreferencePair(PROMPT, CHOSEN, REJECTED, lineage=("rows:1", "others:1"))]
    assert not found.left


def test_a_conversation_that_goes_on_is_compared_in_its_first_answer(read) -> None:
    (pair,) = read("airoboros_pairs", [NEW | {"conversations": [ASKED, ANSWERED, ASKED]}], others=[OLD]).examples
    assert (pair.prompt, pair.chosen) == (PROMPT[1:], CHOSEN)


@pytest.mark.parametrize(
    ("new", "old", "left"),
    [
        ({"category": "riddle"}, {}, {"rows:1": "another category", "others:1": "no newer answer"}),
        ({}, {"instruction": "Write on snow."}, {"rows:1": "no older answer", "others:1": "no newer answer"}),
        (
            {},
            {"response": "x" * len("Grey fingers drum.")},
            {"rows:1": "not longer than the older answer", "others:1": "no longer newer answer"},
        ),
        ({}, {"response": "\n"}, {"rows:1": "no older answer", "others:1": "empty completion"}),
        (
            {"conversations": [SYSTEM, ANSWERED]},
            {},
            {"rows:1": "no question and answer first", "others:1": "no newer answer"},
        ),
        (
            {"conversations": [ASKED, ANSWERED | {"value": " " * 20}]},
            {},
            {"rows:1": "empty completion", "others:1": "no newer answer"},
        ),
    ],
)
def test_rows_that_make_no_pair_are_left(read, new, old, left) -> None:
    found = read("airoboros_pairs", [NEW | new], others=[OLD | old])
    assert not found.examples
    assert {each.place: each.reason for each in found.left} == left


def test_the_categories_are_an_option(read) -> None:
    found = read("airoboros_pairs", [NEW, NEW | {"category": "riddle"}], others=[OLD], categories=["riddle"])
    assert [pair.lineage for pair in found.examples] == [("rows:2", "others:1")]


def test_the_order_of_rows_changes_no_pair(read) -> None:
    news = [NEW, NEW | {"conversations": [ASKED, ANSWERED]}]
    olds = [OLD, OLD | {"response": "Rain falls."}, OLD | {"response": "Wet."}]
    expected = {pair.id for pair in read("airoboros_pairs", news, others=olds).examples}
    assert len(expected) == 2
    for others in permutations(olds):
        found = read("airoboros_pairs", reversed(news), others=others)
        assert {pair.id for pair in found.examples} == expected
        assert [each.reason for each in found.left] == ["another older answer was taken"] * 2


@pytest.mark.parametrize("source", ["airoboros", "airoboros_pairs"])
@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"category": "writing"}, "missing column", " conversations"),
        (NEW | {"conversations": [ASKED, ANSWERED | {"value": None}]}, "null value", " conversations[1].value"),
        (NEW | {"conversations": [ASKED | {"from": "stranger"}]}, "unknown role", " conversations[0].from"),
    ],
)
def test_a_row_of_another_schema_is_named(read, source, row, reason, where) -> None:
    (bad,) = read(source, [NEW, row], others=[OLD]).bad
    assert (bad.place, bad.error.reason, bad.error.where) == ("rows:2", reason, where)


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"instruction": "x"}, "missing column", " response"),
        (OLD | {"instruction": None}, "null value", " instruction"),
        (OLD | {"response": "\ud800"}, "lone surrogate", " response"),
    ],
)
def test_an_older_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("airoboros_pairs", [NEW], others=[row, OLD])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("others:1", reason, where)]
