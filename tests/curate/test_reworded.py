"""Reworded leaks: what words do not find, an encoder's vectors do."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from poise.curate.benchmarks import Item
from poise.curate.encoder import Encoder
from poise.curate.matcher import Matcher, words_of
from poise.curate.reworded import comparable, forms, reworded
from poise.examples import Conversation, Document, Message, PreferencePair


def bag_of_words(texts: list[str]) -> np.ndarray:
    """Count words, whatever their order: the same words in other places are the same vector."""
    vectors = np.zeros((len(texts), 4093), np.float32)
    for row, text in enumerate(texts):
        for word in words_of(text):
            vectors[row, zlib.crc32(word.encode()) % 4093] += 1
    return vectors


ENCODER = Encoder(bag_of_words, {"model": "bag of words"})
ASKED = "How many rolls does a baker sell each week who fills 24 trays every morning?"
TURNED = "A baker fills 24 trays every morning: how many rolls does each week sell who?"
ITEM = Item("bakery", "7", (ASKED,))


def found(turn: str, *items: Item, threshold: float = 0.9, **keys) -> list[tuple[str, float]]:
    listed = list(items or [ITEM])
    looked_for = forms(listed, Matcher(listed))
    matches = reworded([("row", [turn])], looked_for, ENCODER, threshold, **keys).get("row", [])
    return [(match.item, round(match.share, 2)) for match in matches]


def test_a_turn_is_a_leak_by_its_vector_where_its_words_share_too_little() -> None:
    assert Matcher([ITEM]).judge(Conversation((Message("user", TURNED), Message("assistant", "168.")))) is None
    assert found(TURNED) == [("7", 1.0)]
    assert found("Write a poem about a baker, please, with many rolls.") == []


def test_a_turn_with_other_numbers_is_none_unless_the_guard_is_off() -> None:
    other = TURNED.replace("24", "31")
    assert found(other) == []
    assert found(other, guard=False) == [("7", 0.93)]  # 14 of 15 words


def test_the_nearest_item_hides_none_behind_it() -> None:
    # the nearest has other numbers: with one neighbour alone, as in bagel, the second would not be found
    near = Item("bakery", "8", (TURNED.replace("24", "25"),))
    assert found(TURNED.replace("fills 24", "fills 24 24"), near, ITEM, threshold=0.5) == []
    assert found(TURNED, near, ITEM, threshold=0.5) == [("7", 1.0)]


def test_a_text_more_than_twice_as_long_is_none() -> None:
    longer = Item("bakery", "7", (f"{ASKED} {ASKED}",))
    assert found(f"{TURNED} {TURNED} {TURNED}", longer, guard=False) == [("7", 1.0)]
    assert found(f"{TURNED} {TURNED} {TURNED}", guard=False) == []


def test_a_question_is_looked_for_with_its_choices_too() -> None:
    item = Item("exam", "1", ("Which metal is liquid at the temperature of a room?", "Which metal is liquid at the "
                "temperature of a room? A. iron B. mercury C. lead D. tin"))  # fmt: skip
    assert found("A. iron B. mercury C. lead D. tin. At the temperature of a room, which metal is liquid?", item) == [
        ("1", 1.0)
    ]


def test_a_question_about_a_passage_is_looked_for_with_the_passage() -> None:
    item = Item("reading", "1", ("Who baked it?",), passage="The bread was baked by Ann at six in the morning.")
    assert [form.text for form in forms([item], Matcher([item]))] == [f"{item.passage}\n\nWho baked it?"]


def test_what_is_too_short_allowed_or_shared_by_items_is_not_looked_for() -> None:
    shared = "Which of these sentences is true?"
    items = [
        Item("exam", "1", (shared, f"{shared} A. Iron floats on mercury. B. Ice sinks.")),
        Item("exam", "2", (shared, f"{shared} A. Lead is lighter than tin. B. Ice floats.")),
        Item("exam", "3", ("Why?",)),
        Item("exam", "4", ("What is the largest planet of all?",)),
    ]
    matcher = Matcher(items, allow=["What is the largest planet of all?"])
    assert [(form.item.id, form.text[-5:]) for form in forms(items, matcher)] == [("1", "inks."), ("2", "oats.")]


def test_all_user_turns_and_chosen_answers_and_paragraphs_are_compared_and_no_rejected_answer() -> None:
    user, answer, other = (Message("user", ASKED), Message("assistant", TURNED), Message("assistant", "No " * 4))
    assert comparable(Conversation((user, other, user, answer))) == [ASKED, "No " * 4, ASKED, TURNED]
    assert comparable(PreferencePair((user,), (answer,), (other,))) == [ASKED, TURNED]
    assert comparable(Document(f"{ASKED}\n\nShort one.\n \n{TURNED}")) == [ASKED, TURNED]


@pytest.mark.parametrize("backwards", [False, True])
def test_equal_turns_of_several_rows_are_all_leaks_in_any_order(backwards: bool, tmp_path: Path) -> None:
    rows = [("a", [TURNED]), ("b", ["Hello there, my friend", TURNED]), ("c", ["Nothing of this kind"])]
    asked = rows[::-1] if backwards else rows
    matches = reworded(asked, forms([ITEM], Matcher([ITEM])), ENCODER, 0.9, cache=tmp_path)
    assert {row: [match.item for match in each] for row, each in matches.items()} == {"a": ["7"], "b": ["7"]}
    assert matches["a"][0].reason.evidence.startswith("7, cosine 1.00: How many rolls")
