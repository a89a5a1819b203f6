"""`poise arena`: vote on two models' answers, blind and side by side."""

import click

from poise.commands._common import Named


class Arena(Named):
    """The commands of `poise arena`; what is none of them names a contestant."""

    package = "poise.arena.verbs"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `poise arena A B` for `poise arena vote A B`."""
        if args and args[0] not in (*self.list_commands(ctx), *self.get_help_option_names(ctx)):
            args = ["vote", *args]
        return super().parse_args(ctx, args)


@click.group("arena", cls=Arena, subcommand_metavar="A B … | COMMAND [ARGS]…")
def command() -> None:
    """Vote on two models' answers, blind and side by side.

    `poise arena A B` serves a page for the browser, on this machine alone, and tells at the end who won; its options
    are those of `poise arena vote`.
    """
