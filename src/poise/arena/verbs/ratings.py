"""Tell the tally of an arena: win rates with intervals, ratings, and what should make one doubt them."""

from pathlib import Path
from typing import Any

import click

from poise.arena.verbs import _folder as folders

PARAMETERS: list[click.Parameter] = [folders.argument()]


def run(*, folder: Path) -> dict[str, Any]:
    """Count the votes and write evaluation.json; returns what `--json` prints."""
    from poise.arena.store import read_votes

    return folders.result(read_votes(folder), folder)


def told(result: dict[str, Any]) -> str:
    """Show the tables."""
    from poise.evaluate.result import told as tables

    return tables(result)
