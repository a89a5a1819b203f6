"""`poise check`: say whether a recipe may run; exit 2 where it must not."""

import sys
from pathlib import Path
from typing import Any

import click

from poise.arguments import split_arguments
from poise.commands._common import PASS_ON, emit, json_option, launch_option


@click.command("check", context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE [KEY=VALUE …]")
@click.option("--verb", help="The objective; found from the recipe's folder name where it is not given.")
@click.option("--all-rows", is_flag=True, help="Render every row, not a sample of 2,000.")
@launch_option("Check for training by this configuration of accelerate.")
@json_option
def command(
    arguments: tuple[str, ...], verb: str | None, all_rows: bool, configuration: Path | None, as_json: bool
) -> None:
    """Say whether a recipe may run; exit 2 where it must not.

    Learning rate, lengths, template, rows, pairs, memory, disk, trackers: errors, warnings and notes, each with a code.
    """
    from poise.check import check as check_recipe
    from poise.check import print_check

    path, overrides = split_arguments(arguments)
    found: list[dict[str, Any]] = []

    def work() -> dict[str, Any]:
        found.append(check_recipe(path, overrides, verb=verb, all_rows=all_rows, configuration=configuration))
        return found[0]

    emit(as_json, work, show=print_check)
    if not found[0]["ok"]:
        sys.exit(2)
