"""`poise compare`: compare two evaluated models over every item both have."""

from pathlib import Path

import click

from poise.commands._common import emit, json_option


@click.command("compare")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@json_option
def command(before: Path, after: Path, as_json: bool) -> None:
    """Compare two evaluated models over every item both have.

    BEFORE and AFTER are folders that `poise evaluate` or a training wrote. Refuses where they were asked differently.
    """
    from poise.evaluate import compare as comparing

    emit(
        as_json,
        lambda: comparing.compare(before, after),
        show=lambda compared: click.echo(comparing.told(compared)),
    )
