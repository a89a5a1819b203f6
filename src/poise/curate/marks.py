"""Marks: the numbers, operators and code names of a text, which change its answer but hardly its vector."""

import re

MARKS = re.compile(
    r"`[^`\n]+`"  # code set in backticks
    r"|\b\w+(?=\()"  # what is called
    r"|\b\w*_\w+|\b[a-z]+[A-Z]\w*"  # names in snake_case and camelCase
    r"|-?\d+(?:[.,:/]\d+)*"
    r"|[-!]?[+*/%=<>&|^~\\$]+|(?<= )-(?= )"  # operators; a hyphen is none
)


def marks(text: str) -> list[str]:
    """Return the numbers, operators and code names of a text, sorted: what changes its answer but hardly its vector."""
    return sorted(MARKS.findall(text))


def differ_in_marks(one: str, other: str) -> bool:
    """Whether two texts hold other numbers or code, and so are not near-duplicates however near their vectors are."""
    return marks(one) != marks(other)
