"""`poise sources`: list the datasets that a curation recipe can name."""

from typing import Any

import click

from poise.commands._common import emit, json_option


@click.command("sources")
@json_option
def command(as_json: bool) -> None:
    """List the datasets that a curation recipe can name."""
    from poise.curate import catalogue

    def show(result: dict[str, Any]) -> None:
        click.echo(catalogue.told(result["sources"]))

    emit(as_json, lambda: {"sources": catalogue.catalogue()}, show=show)
