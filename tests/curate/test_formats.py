"""Prompt formats, and rows cut into one per answer."""

from collections import Counter
from itertools import product

import pytest

from poise.curate.formats import FORMATS, expanded, formats_of
from poise.curate.selection import split
from poise.curate.texts import normalised, user_turns
from poise.errors import RecipeError
from poise.examples import Conversation, Message

FOUR = ["alpaca", "vicuna", "llama-2", "chatml"]
IDS = [f"a:{index}" for index in range(2000)]
CHATS = ["conversation"] * len(IDS)


def chat(*texts: str) -> Conversation:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[index % 2], text) for index, text in enumerate(texts))
    return Conversation(messages, "a", ("a.jsonl:1",))


@pytest.mark.parametrize(("policy", "each"), [("all", 4), ("slices", 3), ("one", 1)])
def test_every_row_has_as_many_formats_as_the_policy_says(policy: str, each: int) -> None:
    found = formats_of(IDS, CHATS, FOUR, policy, seed=42)
    assert {len(formats) for formats in found} == {each}
    counts = Counter(name for formats in found for name in formats)
    assert counts.total() == each * len(IDS)
    assert all(abs(counts[name] - len(IDS) * each / 4) < 100 for name in FOUR)


def test_slices_leave_each_row_out_of_one_of_any_number_of_formats() -> None:
    for size in range(2, len(FORMATS) + 1):
        found = formats_of(IDS, CHATS, FORMATS[:size], "slices", seed=42)
        assert {len(set(formats)) for formats in found} == {size - 1}
        assert {name for formats in found for name in formats} == set(FORMATS[:size])


def test_a_document_has_no_format() -> None:
    kinds = ["document", "preference_pair"]
    assert formats_of(IDS[:2], kinds, FOUR, "all", seed=42) == [(), tuple(FOUR)]


def test_other_rows_do_not_change_a_row_s_formats() -> None:
    found = formats_of(IDS, CHATS, FOUR, "one", seed=42)
    assert formats_of(["b:0", *IDS], ["document", *CHATS], FOUR, "one", seed=42)[1:] == found
    assert formats_of(IDS, CHATS, FOUR, "one", seed=43) != found


@pytest.mark.parametrize(
    ("formats", "policy", "told"),
    [
        (["alpacca"], "all", "'alpacca' is no prompt format; did you mean 'alpaca'"),
        ([], "all", "at least one"),
        (["alpaca", "alpaca"], "one", "none twice"),
        (["alpaca"], "slices", "slices of a single format hold no row"),
    ],
)
def test_formats_that_make_no_sense_are_refused(formats: list[str], policy: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        formats_of(IDS, CHATS, formats, policy, seed=42)


def test_a_conversation_becomes_one_row_for_each_answer() -> None:
    whole = chat("one?", "1", "two?", "2", "three?", "3")
    assert expanded(whole) == [chat("one?", "1"), chat("one?", "1", "two?", "2"), whole]


def test_a_single_answer_stays_one_row_and_an_open_question_is_left_out() -> None:
    assert expanded(chat("one?", "1")) == [chat("one?", "1")]
    assert expanded(chat("one?", "1", "two?")) == [chat("one?", "1")]
    assert expanded(chat("one?")) == [chat("one?")]


@pytest.mark.parametrize(("policy", "is_expanded"), list(product(("all", "one", "slices"), (False, True))))
def test_no_question_is_in_train_and_in_test(policy: str, is_expanded: bool) -> None:
    """300 rows of 100 questions, several answers to each; the split comes first, by question."""
    rows = [chat(f"Question {index % 100}?", f"{index}", f"Why {index}?", "So.") for index in range(300)]
    mask = split([first_question(row) for row in rows], [row.id for row in rows], 0.2, seed=42)
    sides: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for row, is_test in zip(rows, mask.tolist(), strict=True):
        cut = expanded(row) if is_expanded else [row]
        named = formats_of([part.id for part in cut], ["conversation"] * len(cut), FOUR, policy, seed=42)
        sides[is_test] += [
            (first_question(part), name) for part, names in zip(cut, named, strict=True) for name in names
        ]
    train, test = ({question for question, _ in sides[side]} for side in (False, True))
    assert train and test and len(train) + len(test) == 100
    assert not train & test
    each = {"all": 4, "slices": 3, "one": 1}[policy] * (2 if is_expanded else 1)
    assert len(sides[True]) + len(sides[False]) == 300 * each


def first_question(row: Conversation) -> str:
    return normalised(user_turns(row)[0])
