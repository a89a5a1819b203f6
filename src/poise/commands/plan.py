"""`poise plan`: show what a recipe would do; train nothing."""

from pathlib import Path

import click

from poise.arguments import split_arguments
from poise.commands._common import PASS_ON, emit, json_option, launch_option


@click.command("plan", context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE [KEY=VALUE …]")
@click.option("--verb", help="The objective; found from the recipe's folder name where it is not given.")
@click.option("--no-data", is_flag=True, help="Stop after resolving: touch neither model nor data.")
@click.option("--probe", is_flag=True, help="Load the model, take a few micro-steps, and forecast time and memory.")
@launch_option("Plan for the processes of this configuration of accelerate.")
@json_option
def command(
    arguments: tuple[str, ...], verb: str | None, no_data: bool, probe: bool, configuration: Path | None, as_json: bool
) -> None:
    """Show what a recipe would do; train nothing.

    Prints every value with its origin, then rows, tokens, trained share and optimizer steps.
    """
    from poise.plan import plan as make_plan
    from poise.plan import print_plan

    path, overrides = split_arguments(arguments)
    emit(
        as_json,
        lambda: make_plan(
            path, overrides, verb=verb, with_data=not no_data, with_probe=probe, configuration=configuration
        ),
        show=print_plan,
    )
