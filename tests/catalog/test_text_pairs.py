"""Pairs in text columns: orca_dpo_pairs, toxic_dpo and truthy."""

import pytest

from poise.examples import Message, PreferencePair
from poise.names import load_named
from poise.sources.dataset import Left

SIDES = {"chosen": "7 is a prime.", "rejected": "9"}
ROWS = {
    "orca_dpo_pairs": {"system": "Be exact.", "question": "Name a prime.", **SIDES},
    "toxic_dpo": {"prompt": "Name a prime.", **SIDES},
    "truthy": {"id": "1", "source": "truthy_dpo", "system": "Be exact.", "prompt": "Name a prime.", **SIDES},
}
SYSTEM, ASKED = Message("system", "Be exact."), Message("user", "Name a prime.")
CHOSEN, REJECTED = (Message("assistant", "7 is a prime."),), (Message("assistant", "9"),)


@pytest.mark.parametrize("source", ROWS)
def test_a_pair_keeps_the_system_prompt(read, source) -> None:
    prompt = (SYSTEM, ASKED) if "system" in ROWS[source] else (ASKED,)
    found = read(source, [ROWS[source]])
    assert found.examples == [PreferencePair(prompt, CHOSEN, REJECTED, lineage=("rows:1",))]


@pytest.mark.parametrize("source", ["orca_dpo_pairs", "truthy"])
def test_an_empty_system_prompt_is_none(read, source) -> None:
    (pair,) = read(source, [ROWS[source] | {"system": ""}]).examples
    assert pair.prompt == (ASKED,)


@pytest.mark.parametrize("source", ROWS)
def test_answers_that_cannot_be_compared_are_left(read, source) -> None:
    same, empty = ROWS[source] | {"chosen": "9"}, ROWS[source] | {"rejected": "\n"}
    found = read(source, [same, empty])
    assert found.left == [Left("rows:1", "chosen equals rejected"), Left("rows:2", "empty completion", "rejected")]


def test_only_the_toxic_pairs_must_be_accepted() -> None:
    abouts = {source: load_named("poise.catalog", source).ABOUT for source in ROWS}
    assert [source for source, about in abouts.items() if about.opt_in] == ["toxic_dpo"]
    assert "harmful" in abouts["toxic_dpo"].risk


@pytest.mark.parametrize("source", ROWS)
@pytest.mark.parametrize(
    ("change", "reason"), [({}, "missing column"), ({"chosen": None}, "null value"), ({"chosen": 7}, "wrong type")]
)
def test_a_row_of_another_schema_is_named(read, source, change, reason) -> None:
    row = {name: value for name, value in ROWS[source].items() if name != "chosen"} | change
    found = read(source, [ROWS[source], row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, " chosen")]
