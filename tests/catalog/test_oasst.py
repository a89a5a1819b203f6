"""OASST1: the best-ranked path of each tree, and its ranked answers."""

import random
from typing import Any

import pytest

from poise.examples import Conversation, Message, RankedAnswers

SOURCES = pytest.mark.parametrize("source", ["oasst", "oasst_pairs"])


def node(name: str, parent: str | None, rank: int | None = None, **columns: Any) -> dict[str, Any]:
    """Return the message `name`, whose letter says who wrote it: q is asked, a is answered."""
    return {
        "message_id": name,
        "parent_id": parent,
        "text": f"text of {name}",
        "role": "prompter" if name[0] == "q" else "assistant",
        "lang": "en",
        "rank": rank,
        "deleted": False,
        "message_tree_id": "q1",
        "tree_state": "ready_for_export",
    } | columns


def message(name: str) -> Message:
    return Message("user" if name[0] == "q" else "assistant", f"text of {name}")


TREE = [
    node("q1", None),
    node("a1", "q1", 1),
    node("a2", "q1", 0),
    node("a3", "q1"),
    node("q2", "a2", 0),
    node("q3", "a2", 1),
    node("a4", "q3", 2),
    node("a5", "q3", 0),
    node("a6", "q3", 2),
]
"""The answers to q1 rank a2, a1, and nobody ranked a3; those to q3 rank a5, then a4 and a6; q2 has none."""


def test_the_best_answers_are_followed_past_a_question_without_one(read) -> None:
    found = read("oasst", TREE)
    path = tuple(map(message, ("q1", "a2", "q3", "a5")))
    assert found.examples == [Conversation(path, lineage=("rows:1", "rows:3", "rows:6", "rows:8"))]
    assert {each.place for each in found.left} == {"rows:2", "rows:4", "rows:5", "rows:7", "rows:9"}
    assert {each.reason for each in found.left} == {"not on a best-ranked path"}


def test_answers_beside_one_another_keep_their_ranks(read) -> None:
    found = read("oasst_pairs", TREE)
    first, second = sorted(found.examples, key=lambda ranked: len(ranked.prompt))
    assert first == RankedAnswers(
        (message("q1"),), ((message("a2"),), (message("a1"),)), (0, 1), lineage=("rows:1", "rows:3", "rows:2")
    )
    assert second.prompt == tuple(map(message, ("q1", "a2", "q3")))
    assert second.answers[0] == (message("a5"),)
    assert set(second.answers[1:]) == {(message("a4"),), (message("a6"),)}
    assert second.ranks == (0, 1, 1)
    assert second.lineage[:4] == ("rows:1", "rows:3", "rows:6", "rows:8")
    assert {each.place: each.reason for each in found.left} == dict.fromkeys(
        ("rows:4", "rows:5"), "in no comparison of ranked answers"
    )


@SOURCES
def test_the_order_of_rows_changes_no_example(read, source) -> None:
    copy = node("a2", "q1", 3, text="another text of a2")
    rows = [*TREE, copy, node("q9", None), node("a7", "q9", 0), node("a8", "q9", 0), node("a9", "q9", 1)]
    expected = {example.id for example in read(source, rows).examples}
    assert len(expected) == {"oasst": 2, "oasst_pairs": 3}[source]
    for seed in range(20):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert {example.id for example in read(source, shuffled).examples} == expected


@SOURCES
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"deleted": True}, "deleted"),
        ({"text": " "}, "empty text"),
        ({"tree_state": "aborted_low_grade"}, "unfinished tree"),
        ({"lang": "es"}, "another language"),
    ],
)
def test_nothing_goes_through_a_message_that_is_left(read, source, change, reason) -> None:
    found = read(source, [node("q1", None) | change, *TREE[1:]], language="en")
    assert not found.examples
    assert {each.place for each in found.left} == {f"rows:{number}" for number in range(1, 10)}
    assert (found.left[0].place, found.left[0].reason) == ("rows:1", reason)


@SOURCES
def test_all_languages_are_read_unless_one_is_named(read, source) -> None:
    spanish = [row | {"lang": "es"} for row in TREE]
    assert read(source, spanish).examples == read(source, TREE).examples


@SOURCES
def test_messages_that_go_in_a_circle_or_have_no_root_are_left(read, source) -> None:
    found = read(source, [node("q1", "a1"), node("a1", "q1", 0), node("a2", "q1", 1), node("a3", "nowhere", 0)])
    assert not found.examples
    assert len(found.left) == 4


def test_a_row_with_the_message_id_of_another_is_left(read) -> None:
    found = read("oasst", [node("q1", None), node("a1", "q1", 0), node("a1", "q1", 0)])
    assert len(found.examples) == 1
    assert [each.reason for each in found.left] == ["another row has its message_id"]


@SOURCES
@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"message_id": "x"}, "missing column", " parent_id"),
        (node("x", "q1", text=None), "null value", " text"),
        (node("x", "q1", rank="first"), "wrong type", " rank"),
        (node("x", "q1", role="alien"), "unknown role", " role"),
    ],
)
def test_a_row_of_another_schema_is_named(read, source, row, reason, where) -> None:
    found = read(source, [*TREE, row])
    assert found.examples == read(source, TREE).examples
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:10", reason, where)]
