"""docs/sources.md lists every catalog file as its ABOUT and its options say, docs/curation.md shows one that works."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from poise import examples
from poise.examples import Conversation, Message
from poise.names import load_named, names_in
from poise.sources.dataset import About, Left, options_of, read_rows

DOCS = Path(__file__).parents[2] / "docs"
KINDS = [kind.__name__ for kind in get_args(examples.Example)]
SOURCES = names_in("poise.catalog")


def expected(name: str) -> str:
    """Write a source's row of the table."""
    module = load_named("poise.catalog", name)
    about: About = module.ABOUT
    cells = [
        f"[`{name}`](../src/poise/catalog/{name}.py)",
        "<br>".join(datasets(module)),
        f"`{kind(module)}`: {first_line(module)}",
        about.licence,
        str(about.confidence),
        "<br>".join(options(module)),
        ("Needs `accept_risk: true`. " if about.opt_in else "") + (about.risk or ""),
    ]
    return f"| {' | '.join(cells)} |"


def datasets(module: ModuleType) -> Iterator[str]:
    for about in filter(None, (module.ABOUT, getattr(module, "AGAINST", None))):
        parts = about.files or tuple(filter(None, (about.config, about.split)))
        yield f"[{about.hub}](https://huggingface.co/datasets/{about.hub}), {', '.join(parts)}"


def kind(module: ModuleType) -> str:
    """Return the one kind of Example that a file imports to make."""
    (found,) = [name for name in KINDS if hasattr(module, name)]
    return found


def first_line(module: ModuleType) -> str:
    function = module.read if hasattr(module, "read") else module.read_all
    return str(inspect.getdoc(function)).partition("\n")[0]


def options(module: ModuleType) -> Iterator[str]:
    for name, parameter in options_of(module).items():
        default = parameter.default
        written = f"[{', '.join(default)}]" if isinstance(default, tuple) else json.dumps(default)
        yield f"`{name}: {written.strip(chr(34))}`"


def test_the_table_has_one_row_for_every_source() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]", (DOCS / "sources.md").read_text(), re.MULTILINE)
    assert rows == SOURCES


@pytest.mark.parametrize("name", SOURCES)
def test_a_row_of_the_table_says_what_the_source_says(name: str) -> None:
    assert expected(name) in (DOCS / "sources.md").read_text().splitlines()


def test_the_source_that_the_page_on_curation_writes_reads_rows() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "curation.md").read_text(), re.MULTILINE | re.DOTALL)
    module: Any = ModuleType("quiz")
    exec(code, module.__dict__)
    answered = {"question": "Which river?", "answer": "the Seine"}
    rows = [("quiz:1", answered), ("quiz:2", answered | {"answer": None})]
    example, left = read_rows(module, rows, options={"polite": 0})
    assert isinstance(example, Conversation)
    assert example.messages == (Message("user", "Which river?"), Message("assistant", "the Seine"))
    assert left == Left("quiz:2", "no answer", "answer")
