"""`poise card`: write a model card from what was measured."""

from pathlib import Path
from typing import Any

import click

from poise.commands._common import emit, evaluations_option, json_option


@click.command("card")
@click.argument("model", type=click.Path(path_type=Path, exists=True), metavar="RUN")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; README.md in RUN by default.")
@click.option("--title", help="What the model is called; the folder's name by default.")
@click.option("--licence", help="That of this model; its base's by default, where that is known.")
@click.option("--answers", default=6, show_default=True, help="Questions to show with their answers.")
@evaluations_option("Tell")
@json_option
def command(model: Path, out: Path | None, as_json: bool, **about: Any) -> None:
    """Write a model card from what was measured.

    RUN is a run, a pipeline's folder, or a merged or quantized model. A field without evidence says "not measured".
    """

    def build() -> dict[str, Any]:
        from poise.publish.card.make import make_card

        return make_card(model, out, **about)

    emit(as_json, build, show=lambda made: click.echo(made["card"]))
