"""`poise evaluate`: evaluate a model: its answers, or what a judge says of them."""

from typing import Any

import click

from poise.commands._common import Named
from poise.errors import RecipeError
from poise.names import did_you_mean


class Evaluations(Named):
    """The commands of `poise evaluate`."""

    package = "poise.evaluations"

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Name the near evaluation on a miss."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise RecipeError(
                f"poise evaluate has no {args[0]!r}{did_you_mean(args[0], self.list_commands(ctx))}\n"
                "    to do:  poise evaluate --help lists what it has"
            )
        return super().resolve_command(ctx, args)


@click.group("evaluate", cls=Evaluations)
def command() -> None:
    """Evaluate a model: its answers, or what a judge says of them.

    Each evaluation writes a folder that a killed one goes on in, and that `poise compare` and `poise report` read.
    """
