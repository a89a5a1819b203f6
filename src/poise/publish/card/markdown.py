"""Write Markdown around text from outside: whatever it holds, a viewer shows it as it reads and runs none of it."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST = 300
"""Characters of a text within a line."""
MARKS = re.compile(r"[\\`*_{}\[\]<>#|~$!]")
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
ADDRESS = re.compile(r"(?::(?=//)|(?<=\bwww)\.|(?<=\bjavascript):|(?<=\bdata):)", re.IGNORECASE)


def inline(value: Any, longest: int = LONGEST) -> str:
    """Write a text within a line, as a table's cell or after a label."""
    text = " ".join(visible(str(value)).split())
    if len(text) > longest:
        text = text[: longest - 1].rstrip() + "…"
    marked = MARKS.sub(lambda found: f"\\{found[0]}", text.replace("&", "&amp;"))
    marked = marked.replace("\\<", "&lt;").replace("\\>", "&gt;")
    return ADDRESS.sub(lambda found: f"\\{found[0]}", marked)


def block(value: Any, language: str = "") -> str:
    """Write a text as it stands, in a fence longer than any in it."""
    text = visible(str(value), keep="\n\t")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a table; cells are texts from outside, except those that `inline` has written."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell if isinstance(cell, Written) else inline(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


class Written(str):
    """Markdown of our own."""


def visible(text: str, keep: str = "") -> str:
    """Show control characters and marks that turn text around as escapes; blanks of a line stay blanks."""
    spaced = text if "\n" in keep else text.replace("\n", " ").replace("\t", " ").replace("\r", " ")
    return CONTROLS.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", spaced)
