"""`poise mask`: show a row as the model sees it, in colour."""

from typing import Any

import click

from poise.arguments import split_arguments
from poise.commands._common import PASS_ON, emit, json_option


@click.command("mask", context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE [KEY=VALUE …]")
@click.option("--verb", help="The objective; found from the recipe's folder name where it is not given.")
@click.option("--row", default=0, show_default=True, help="Which row, from 0, in the order of the files.")
@json_option
def command(arguments: tuple[str, ...], verb: str | None, row: int, as_json: bool) -> None:
    """Show a row as the model sees it, in colour."""
    from rich.console import Console
    from rich.text import Text

    from poise.plan import mask as make_mask

    path, overrides = split_arguments(arguments)
    views: list[Text] = []

    def build() -> dict[str, Any]:
        as_data, view = make_mask(path, overrides, verb=verb, number=row)
        views.append(view)
        return as_data

    emit(as_json, build, show=lambda _: Console().print(*views))
