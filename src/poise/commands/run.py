"""`poise run`: run all stages of one file, from data to a report."""

from typing import Any

import click

from poise.arguments import split_arguments
from poise.commands._common import PASS_ON, emit, json_option
from poise.errors import RecipeError


@click.command("run", context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="PIPELINE [KEY=VALUE …]")
@click.option("--from", "start", metavar="STAGE", help="Make this stage again, and all after it.")
@click.option("--dry-run", is_flag=True, help="Check every stage and say what would be done.")
@json_option
def command(arguments: tuple[str, ...], start: str | None, dry_run: bool, as_json: bool) -> None:
    """Run all stages of one file, from data to a report.

    What is there and unchanged is skipped; a run that was stopped or killed goes on where it was.
    """
    path, overrides = split_arguments(arguments)
    if path is None:
        raise RecipeError("poise run needs the file of a pipeline\n    to do:  poise run pipeline.yaml")

    def show(result: dict[str, Any]) -> None:
        for line in result["stages"] if dry_run else ():
            click.echo(f"{line['stage']}: {line['does']} ({line['why']})")

    def build() -> dict[str, Any]:
        from poise.pipeline.run import run_pipeline

        return run_pipeline(path, overrides, start=start, dry_run=dry_run)

    emit(as_json, build, show)
