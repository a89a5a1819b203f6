"""`poise init`: turn a configuration of TRL, Axolotl, LLaMA-Factory, bagel or the alignment handbook into a recipe."""

from pathlib import Path

import click

from poise.commands._common import emit, json_option


@click.command("init")
@click.option("--from", "source", required=True, metavar="FILE", help="YAML, a script, or a command line in quotes.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the recipe; on stdout by default.")
@click.option("--verb", help="The objective, where the configuration does not tell it.")
@json_option
def command(source: str, out: Path | None, verb: str | None, as_json: bool) -> None:
    """Turn a configuration of TRL, Axolotl, LLaMA-Factory, bagel or the alignment handbook into a recipe.

    Says what it could not carry over, and what would have gone wrong.
    """
    from poise.translate.told import told
    from poise.translate.translate import init as make

    emit(as_json, lambda: make(source, out, verb), show=told)
