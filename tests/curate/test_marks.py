"""Marks: what tells two texts apart that a vector does not."""

import pytest

from poise.curate.marks import differ_in_marks, marks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a well-known fact, and so on.", []),
        ("He paid $1,000.50 at 12:30.", ["$", "1,000.50", "12:30"]),
        ("3 - 4 is not 3 + 4", ["+", "-", "3", "3", "4", "4"]),
        ("call add(x) or my_name or camelCase", ["add", "camelCase", "my_name"]),
        ("if a != b -> c", ["!=", "->"]),
        ("run `ls -l` now", ["`ls -l`"]),
    ],
)
def test_numbers_operators_and_code_are_marks(text: str, expected: list[str]) -> None:
    assert marks(text) == expected


def test_texts_with_other_numbers_or_code_differ() -> None:
    assert differ_in_marks("Tom has 3 apples and 5 pears.", "Tom has 4 apples and 5 pears.")
    assert differ_in_marks("Explain add(x).", "Explain sub(x).")
    assert not differ_in_marks("Tom has 3 apples and 5 pears.", "Tom owns 5 pears and 3 apples!")
