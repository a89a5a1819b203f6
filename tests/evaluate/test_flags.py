"""Flags: the smallest answer that trips each."""

import pytest

from poise.evaluate.flags import counted, flags, repeated_answers

STORY = "Once there was a fox who lived by the river and counted every star that fell into it until the morning came."


@pytest.mark.parametrize(
    ("text", "stopped", "expected"),
    [
        ("Paris.", True, ()),
        ("", True, ("empty",)),
        (" \n", False, ("empty", "never-ending")),
        (STORY, False, ("truncated",)),
        (STORY, True, ()),
        ("I am sorry. " * 8, False, ("never-ending",)),
        ("Well: " + "I am sorry. " * 8 + "I am so", False, ("never-ending",)),
        ("I am sorry. " * 8, True, ("repeating",)),
        ("ha ha ha ha", True, ()),
        ("0" * 40, False, ("never-ending",)),
        (f"{STORY} {STORY} {STORY} The end of it.", True, ("repeating",)),
        (f"{STORY} The end of it.", True, ()),
    ],
)
def test_an_answer_has_the_flags_it_earns(text: str, stopped: bool, expected: tuple[str, ...]) -> None:
    assert flags(text, stopped) == expected


def test_flags_are_counted_and_equal_answers_too() -> None:
    assert counted([("", True), ("", True), ("x", True)]) == {
        "empty": 2, "repeating": 0, "never-ending": 0, "truncated": 0,
    }  # fmt: skip
    assert repeated_answers(["a", "a ", "b", "", ""]) == 2
