"""Write decisive votes as preference pairs, split by prompt: a folder that `poise dpo` trains on.

Ties and `both bad` make no pair. Where several votes are on the same two answers, most decide, and a draw makes none.
"""

from pathlib import Path
from typing import Any

import click

from poise.arena.verbs import _folder as folders

PARAMETERS: list[click.Parameter] = [
    folders.argument(),
    click.Option(["--out"], type=click.Path(path_type=Path, file_okay=False), help="FOLDER/pairs by default."),
    click.Option(
        ["--test"], type=click.FloatRange(min=0, max=1, max_open=True), default=0.1, show_default=True,
        help="Share of prompts held out.",
    ),
    click.Option(["--seed"], type=int, default=0, show_default=True, help="Of the split, by the hash of each prompt."),
]  # fmt: skip


def run(*, folder: Path, out: Path | None, test: float, seed: int) -> dict[str, Any]:
    """Write the pairs; returns what `--json` prints."""
    from poise.arena.export import export
    from poise.arena.store import read_votes

    return export(read_votes(folder), out or folder / "pairs", test=test, seed=seed)


def told(result: dict[str, Any]) -> str:
    """Say what was written, and how to train on it."""
    from poise.arena.export import told as exported

    return exported(result)
