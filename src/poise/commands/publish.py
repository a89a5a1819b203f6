"""`poise publish`: publish a model or dataset: show the plan, ask, send."""

import sys
from pathlib import Path
from typing import Any

import click

from poise.commands._common import emit, evaluations_option, json_option


@click.command("publish")
@click.argument("what", type=click.Path(path_type=Path, exists=True), metavar="MODEL")
@click.option("--to", required=True, metavar="TARGET", help="hub:OWNER/NAME or folder:PATH.")
@click.option("--public", is_flag=True, help="Let everybody see it; private by default.")
@click.option("--yes", is_flag=True, help="Send without asking; without it and without a terminal, only plan.")
@click.option("--title", help="What the model is called; the target's name by default.")
@click.option("--licence", help="That of this model; its base's by default, where that is known.")
@click.option("--base", metavar="OWNER/NAME", help="What an adapter's base is called on the Hub.")
@click.option("--answers", type=int, help="Questions in the card, rows of the data too; 6 that are none by default.")
@evaluations_option("Tell in the card")
@json_option
def command(what: Path, to: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Publish a model or dataset: show the plan, ask, send.

    MODEL is a run, a pipeline's folder, a model's folder, or a curated dataset. The plan lists every file with size and
    hash; exactly these are sent, to a private repository, in one commit.
    """
    from poise.publish.plan import Plan, told

    def agrees(plan: Plan) -> bool:
        click.echo(told(plan), err=True)
        if yes:
            return True
        if as_json or not sys.stdin.isatty():
            click.echo("nothing was sent; add --yes to send exactly this", err=True)
            return False
        if plan.public and not plan.target.is_folder:
            return click.prompt("everybody will see it; type the repository's name to send it") == plan.target.name
        return click.confirm("send exactly this?")

    def build() -> dict[str, Any]:
        from poise.publish.publish import publish

        return publish(what, to, agrees, **options)

    emit(as_json, build, show=lambda sent: click.echo(sent["url"]) if sent["published"] else None)
