"""What commands share: their options, how a result is printed, and groups whose commands are the files of a package."""

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, cast

import click

from poise.names import load_named, names_in
from poise.progress import is_main_process

PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": True}
"""For commands that take recipe keys."""


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object on stdout.")(
        function
    )


def launch_option(told: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--launch FILE`."""
    return click.option("--launch", "configuration", type=click.Path(path_type=Path), metavar="FILE", help=told)


def evaluations_option(told: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--evaluation FOLDER`; `told` says what becomes of what `poise evaluate` wrote there."""
    return click.option(
        "--evaluation",
        "evaluations",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help=f"{told} what `poise evaluate` wrote there; may be given several times.",
    )


class Named(click.Group):
    """One command for every file of a package, found by its name."""

    package = ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List them by name."""
        return names_in(self.package)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make the command of a file; only its own file is imported."""
        return _named_command(self.package, cmd_name) if cmd_name in self.list_commands(ctx) else None


def _named_command(package: str, name: str) -> click.Command:
    module = load_named(package, name)

    def command(as_json: bool, **values: Any) -> None:
        emit(as_json, lambda: module.run(**values), show=lambda result: click.echo(module.told(result)))

    made = json_option(click.Command(name, params=list(module.PARAMETERS), callback=command, help=module.__doc__))
    return cast("click.Command", made)


def emit(
    as_json: bool, work: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Do the work; print its result as JSON, or for a person. Whatever else is printed meanwhile goes to stderr."""
    if as_json:
        with redirect_stdout(sys.stderr):
            result = work()
        if is_main_process():
            click.echo(json.dumps(result, default=str))
    else:
        result = work()
        if show is not None:
            show(result)


def debug() -> bool:
    """Whether the command line said --debug, which `run_command` took out of it."""
    return bool(click.get_current_context().obj)
