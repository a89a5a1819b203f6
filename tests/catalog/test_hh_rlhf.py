"""HH-RLHF."""

import pytest

from poise.examples import Message, PreferencePair
from poise.sources.dataset import Left

SHARED = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Bye\n\nAssistant:"
ROW = {"chosen": f"{SHARED} Goodbye!", "rejected": f"{SHARED} Go away."}


def test_the_turns_that_both_share_are_the_prompt(read) -> None:
    prompt = (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye"))
    chosen, rejected = (Message("assistant", "Goodbye!"),), (Message("assistant", "Go away."),)
    assert read("hh_rlhf", [ROW]).examples == [PreferencePair(prompt, chosen, rejected, lineage=("rows:1",))]


def test_an_answer_that_one_side_goes_on_from_belongs_to_both_answers(read) -> None:
    (pair,) = read("hh_rlhf", [ROW | {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!"}]).examples
    assert pair.prompt == (Message("user", "Hi"),)
    assert [message.content for message in pair.chosen] == ["Hello!"]
    assert [message.content for message in pair.rejected] == ["Hello!", "Bye", "Go away."]


@pytest.mark.parametrize(
    ("row", "left"),
    [
        (ROW | {"chosen": ROW["rejected"]}, Left("rows:1", "chosen equals rejected")),
        (ROW | {"rejected": SHARED.replace(" Hello!", "")}, Left("rows:1", "empty completion", "rejected")),
        (ROW | {"chosen": "\n\nHuman: Yo\n\nAssistant: Hi"}, Left("rows:1", "no shared prompt")),
    ],
)
def test_transcripts_that_make_no_pair_are_left(read, row, left) -> None:
    assert read("hh_rlhf", [row]).left == [left]


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"chosen": ROW["chosen"]}, "missing column", " rejected"),
        (ROW | {"chosen": None}, "null value", " chosen"),
        (ROW | {"chosen": "\n\nAlien: Hi"}, "no turn markers", " chosen"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("hh_rlhf", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
