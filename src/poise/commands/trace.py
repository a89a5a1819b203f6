"""`poise trace`: show where a row of a curated folder came from, and what was decided about it."""

from pathlib import Path
from typing import Any

import click

from poise.commands._common import emit, json_option


@click.command("trace")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("row", metavar="ID")
@json_option
def command(folder: Path, row: str, as_json: bool) -> None:
    """Show where a row of a curated folder came from, and what was decided about it.

    ID is a row's id, the hash in it, or SOURCE@FILE:ROW.
    """
    from poise.curate import trace as tracing

    def show(result: dict[str, Any]) -> None:
        click.echo("\n\n".join(map(tracing.told, result["rows"])))

    emit(as_json, lambda: {"rows": tracing.trace(folder, row)}, show=show)
