"""`poise look`: show what is in a dataset and what curation dropped, on a page and here."""

from pathlib import Path

import click

from poise.commands._common import emit, json_option


@click.command("look")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--tokenizer", help="Count tokens by it: a folder, or the id of a model on the Hub.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The page; look.html in a curated folder, else NAME-look.html."
)
@json_option
def command(dataset: Path, tokenizer: str | None, out: Path | None, as_json: bool) -> None:
    """Show what is in a dataset and what curation dropped, on a page and here.

    DATASET is a folder that `poise curate` wrote, or any file, folder or Hub id that poise reads.
    """
    from poise.look.look import look as look_at
    from poise.look.told import told

    emit(as_json, lambda: look_at(dataset, tokenizer=tokenizer, out=out), show=lambda facts: click.echo(told(facts)))
