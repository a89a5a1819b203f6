"""`poise explain`: say what a code such as W101 means; without one, list all."""

import click

from poise.commands._common import emit, json_option


@click.command("explain")
@click.argument("code", required=False)
@json_option
def command(code: str | None, as_json: bool) -> None:
    """Say what a code such as W101 means; without one, list all."""
    from poise.codes import CODES
    from poise.codes import explain as explain_code
    from poise.codes import told as told_in_full

    if code is None:
        listed = {each.code: each.title for each in CODES.values()}
        show = "\n".join(f"{each}  {title}" for each, title in listed.items())
        emit(as_json, lambda: {"codes": listed}, show=lambda _: click.echo(show))
        return
    entry = explain_code(code)
    emit(as_json, lambda: entry.to_json(), show=lambda _: click.echo(told_in_full(entry)))
