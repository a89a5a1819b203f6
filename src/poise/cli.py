"""The command line: a command for every file in poise/commands and poise/objectives, and how each failure ends."""

import atexit
import errno
import json
import os
import sys
import time
import traceback
from typing import Any, NoReturn

import click

from poise import __version__
from poise.commands._training import training_command
from poise.errors import PoiseError, RecipeError, StoppedElsewhere
from poise.names import did_you_mean, load_named, names_in
from poise.progress import hush, is_main_process
from poise.secrets import hidden

SECONDS_TO_TELL = 3.0
"""How long a process waits for another to print the error that ended both."""
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)
"""What a disk says that cannot be written to."""


class Verbs(click.Group):
    """One command for every file of two packages; only the file of the one that is asked for is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List training verbs first."""
        return [*names_in("poise.objectives"), *names_in("poise.commands")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a written command, or make the one of an objective."""
        if cmd_name in names_in("poise.commands"):
            return load_named("poise.commands", cmd_name).command
        return training_command(cmd_name) if cmd_name in names_in("poise.objectives") else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Name the near verb on a miss."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise RecipeError(
                f"poise has no verb {args[0]!r}{did_you_mean(args[0], self.list_commands(ctx))}\n"
                "    to do:  poise --help lists them"
            )
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="poise")
def poise() -> None:
    """From raw data and a base language model to an aligned, evaluated model.

    Start with `poise demo`: no GPU, no network, a few minutes. Then `poise plan RECIPE` to see what a recipe would do,
    and the verb to do it. Recipes are flat YAML; any key can be overridden: `poise dpo recipe.yaml learning_rate=1e-6`.
    """


def main() -> None:
    """Run the command line; every failure ends in one message and its exit code."""
    try:
        run_command()
    except SystemExit as end:
        _leave_others(end.code)
        raise
    _leave_others(0)


def _leave_others(code: object) -> None:
    """End one of several processes without taking Python down around threads that exchange tensors.

    With torch 2.13 and gloo, 3 of 8 runs that had succeeded were aborted by such a thread while Python ended.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def run_command() -> None:
    """Do what the command line says, and exit where it fails."""
    hush()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        poise.main(prog_name="poise", standalone_mode=False, obj=debug)
    except StoppedElsewhere as error:
        _end_quietly(error.exit_code)
    except PoiseError as error:
        if isinstance(error, RecipeError) and not is_main_process():  # the main process read the same recipe
            _end_quietly(error.exit_code)
        _fail(str(error), error.exit_code, debug)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.ClickException as error:
        _fail(error.format_message(), 2, debug)
    except (click.exceptions.Abort, KeyboardInterrupt) as end:
        _fail_if_stopped(end, debug)
        _fail("stopped at once; nothing was saved after the newest checkpoint", 130, debug)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            _fail(
                f"{error.strerror}: {error.filename or 'while writing'}\n"
                "    why:    the disk is full, failing or not writable; what was whole before is untouched\n"
                "    to do:  make room or see to the disk, then the same command with --resume",
                4,
                debug,
            )
        if type(error).__name__ == "OutOfMemoryError":
            _fail(
                f"out of memory: {error}\n    to do:  tokens_per_micro_batch=… smaller, the result is the same",
                4,
                debug,
            )
        _fail(
            f"this is a defect of poise: {type(error).__name__}: {error}\n    to do:  rerun with --debug and report it",
            1,
            debug,
        )


def _fail_if_stopped(end: BaseException, debug: bool) -> None:
    """End with the message and code of a signal that came outside the training loop; click wraps what it raised."""
    from poise.signals import StoppedAtOnce

    for error in (end, end.__cause__, end.__context__):
        if isinstance(error, StoppedAtOnce):
            _fail(str(error), error.exit_code, debug)


def _end_quietly(code: int) -> NoReturn:
    """End a process whose failure another one tells, after it: a launcher ends all once the first has ended."""
    time.sleep(SECONDS_TO_TELL)
    sys.exit(code)


def _fail(message: str, code: int, debug: bool) -> None:
    message = hidden(message)
    if debug:
        click.echo(hidden(traceback.format_exc()), err=True)
    whose = "" if is_main_process() else f"process {os.environ['RANK']}: "
    head = "error: " if code not in (75, 130) else "" if message.startswith("stopped ") else "stopped: "
    click.echo(f"{head}{whose}{message}", err=True)
    if "--json" in sys.argv and is_main_process():
        click.echo(json.dumps({"error": message, "exit_code": code}))
    sys.exit(code)
