"""`poise curate`: build a dataset from many sources, every row accounted for."""

from pathlib import Path
from typing import Any

import click

from poise.arguments import split_arguments
from poise.commands._common import PASS_ON, emit, json_option
from poise.errors import RecipeError


@click.command("curate", context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE [KEY=VALUE …]")
@click.option("--diff", nargs=2, type=click.Path(path_type=Path), help="Say what changed between two curated folders.")
@click.option("--push", metavar="OWNER/NAME", help="Upload the dataset to the Hub once it is built; private.")
@click.option("--public", is_flag=True, help="Let everybody see what --push uploads.")
@json_option
def command(
    arguments: tuple[str, ...], diff: tuple[Path, Path] | None, push: str | None, public: bool, as_json: bool
) -> None:
    """Build a dataset from many sources, every row accounted for.

    Stages that are there and unchanged are reused; a killed build goes on where it was.
    """
    if public and push is None:
        raise RecipeError(
            "--public says who sees what --push uploads\n    to do:  add --push OWNER/NAME, or leave it out"
        )
    if diff is not None and (push is not None or arguments):
        raise RecipeError("--diff compares two folders and builds nothing\n    to do:  leave recipe and --push out")
    if diff is not None:
        from poise.curate import diff as comparing

        emit(as_json, lambda: comparing.diff(*diff), show=lambda found: click.echo(comparing.told(found)))
        return
    path, overrides = split_arguments(arguments)
    if path is None:
        raise RecipeError("poise curate needs a recipe\n    to do:  poise curate recipe.yaml, or --diff A B")

    def build() -> dict[str, Any]:
        from poise.curate.curation import load_curation
        from poise.curate.pipeline import curate as make

        curation = load_curation(path, overrides)
        built = make(curation)
        if push is None:
            return built
        from poise.publish.publish import publish

        sent = publish(Path(curation.out), f"hub:{push}", lambda _: True, public=public)
        return built | {"pushed": {"repository": push, "url": sent["url"], "public": public}}

    emit(as_json, build)
