"""Synthia v1.3."""

import pytest

from poise.examples import Message

ROW = {"system": "Think first.", "instruction": "Hi", "response": "Hello"}
THINK, HI, HELLO = Message("system", "Think first."), Message("user", "Hi"), Message("assistant", "Hello")
HOW, FINE = Message("user", "How are you?"), Message("assistant", "Fine.")


@pytest.mark.parametrize(
    ("instruction", "turns"),
    [
        ("Hi", (HI,)),
        ("  Hi\n", (Message("user", "  Hi\n"),)),
        ("USER: Hi", (HI,)),
        ("How are you? ASSISTANT: Fine. USER: Hi", (HOW, FINE, HI)),
        ("USER: How are you?\nASSISTANT: Fine.\nUSER: Hi", (HOW, FINE, HI)),
        ("What is END_USER: in Perl?", (Message("user", "What is END_USER: in Perl?"),)),
    ],
)
def test_an_instruction_is_cut_at_its_markers_and_the_response_ends_it(read, instruction, turns) -> None:
    (example,) = read("synthia", [ROW | {"instruction": instruction}]).examples
    assert example.messages == (THINK, *turns, HELLO)
    assert example.lineage == ("rows:1",)


def test_an_empty_system_prompt_is_no_turn(read) -> None:
    (example,) = read("synthia", [ROW | {"system": ""}]).examples
    assert example.messages == (HI, HELLO)


@pytest.mark.parametrize(
    ("change", "reason", "evidence"),
    [
        ({"system": "USER: is who asks."}, "turn marker in the system prompt", "system"),
        ({"instruction": "Stop at 'USER:' please"}, "quoted turn marker", "instruction"),
        ({"instruction": 'Stop at "ASSISTANT" please'}, "quoted turn marker", "instruction"),
        ({"instruction": "ASSISTANT: Hello USER: Hi"}, "turns out of order", "instruction"),
        ({"instruction": "Hi ASSISTANT: Hello"}, "turns out of order", "instruction"),
        ({"instruction": "USER: Hi USER: Hi"}, "turns out of order", "instruction"),
    ],
)
def test_a_row_that_cannot_be_cut_safely_is_left_out(read, change, reason, evidence) -> None:
    (left,) = read("synthia", [ROW | change]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", reason, evidence)


def test_a_row_without_an_answer_is_left_out(read) -> None:
    (left,) = read("synthia", [ROW | {"response": " "}]).left
    assert (left.place, left.reason, left.evidence) == ("rows:1", "empty completion", "response")


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"system": "s", "instruction": "i", "output": "o"}, "missing column", " response"),
        (ROW | {"instruction": None}, "null value", " instruction"),
        (ROW | {"system": 1}, "wrong type", " system"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("synthia", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
