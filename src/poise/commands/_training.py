"""The command of an objective: `poise sft`, `poise dpo` and every other file in poise/objectives."""

from pathlib import Path

import click

from poise.arguments import split_arguments
from poise.commands._common import PASS_ON, debug, emit, json_option, launch_option
from poise.progress import is_main_process


def training_command(verb: str) -> click.Command:
    """Make the command of an objective; it is not imported, for that would import torch."""

    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[RECIPE] [KEY=VALUE …]")
    @click.option("--resume", is_flag=True, help="Go on from the newest complete checkpoint of output_dir.")
    @click.option("--overwrite", is_flag=True, help="Replace the run that output_dir holds.")
    @launch_option("Train in several processes, by this configuration of accelerate.")
    @json_option
    def command(
        arguments: tuple[str, ...], resume: bool, overwrite: bool, configuration: Path | None, as_json: bool
    ) -> None:
        from poise.recipe import load_recipe, output_folder
        from poise.run import refuse_if_in_use
        from poise.signals import stopping_at_once

        path, overrides = split_arguments(arguments)
        with stopping_at_once():
            if is_main_process():
                refuse_if_in_use(output_folder(verb, path, overrides))
            recipe = load_recipe(verb, path, overrides)
        if configuration is not None:
            from poise.launch import launch

            flags = {"--resume": resume, "--overwrite": overwrite, "--json": as_json, "--debug": debug()}
            launch(configuration, recipe, [verb, *arguments, *(flag for flag, given in flags.items() if given)])
            return
        with stopping_at_once():
            from poise.workflow import train_and_report

            emit(as_json, lambda: train_and_report(recipe, resume=resume, overwrite=overwrite))

    first = _first_line(verb)
    name = first.split(" (")[0].split(":")[0]
    return click.command(verb, context_settings=PASS_ON, help=first, short_help=f"{name}.")(command)


def _first_line(verb: str) -> str:
    """Read the first line of an objective's docstring without importing it, which would import torch."""
    from importlib.util import find_spec

    spec = find_spec("poise.objectives")
    folder = Path((spec.submodule_search_locations or [""])[0]) if spec else Path()
    return (folder / f"{verb}.py").read_text(encoding="utf-8").split('"""', 1)[1].split("\n", 1)[0]
