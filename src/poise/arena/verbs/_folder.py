"""The folder of an arena: its option, and the tally that stands in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from poise.arena.store import Vote

DEFAULT = Path("arena")


def out(name: str, help: str) -> click.Option:
    """Return an option that names a folder to write."""
    return click.Option(
        [name], type=click.Path(path_type=Path, file_okay=False), default=DEFAULT, show_default=True, help=help
    )


def argument() -> click.Argument:
    """Return the argument that names an arena."""
    return click.Argument(["folder"], type=click.Path(path_type=Path), default=DEFAULT, required=False)


def result(votes: "Sequence[Vote]", folder: Path) -> dict[str, Any]:
    """Write the tally into the folder, for `poise report --evaluation`, and return what `--json` prints."""
    from poise.arena.tally import tally

    counted = tally(votes)
    counted.write(folder)
    return counted.as_json(folder)
