"""Read rows of a catalog file as the pipeline does."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from poise.examples import Example
from poise.names import load_named
from poise.sources.dataset import Bad, Left, read_rows


@dataclass
class Found:
    """What became of the rows."""

    examples: list[Example]
    left: list[Left]
    bad: list[Bad]


@pytest.fixture
def read() -> Callable[..., Found]:
    """Read rows of a source, in a table `rows`, with the options of a recipe."""

    def call(
        source: str,
        rows: Iterable[dict[str, Any]],
        *,
        seed: int = 0,
        others: Iterable[dict[str, Any]] | None = None,
        **options: Any,
    ) -> Found:
        module = load_named("poise.catalog", source)
        placed = [(f"rows:{number}", row) for number, row in enumerate(rows, start=1)]
        against = [(f"others:{number}", row) for number, row in enumerate(others or (), start=1)]
        found = Found([], [], [])
        for outcome in read_rows(module, placed, seed=seed, options=options, others=against):
            if isinstance(outcome, Left):
                found.left.append(outcome)
            elif isinstance(outcome, Bad):
                found.bad.append(outcome)
            else:
                found.examples.append(outcome)
        return found

    return call
