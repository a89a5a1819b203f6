"""`poise chat`: talk with a model, or with two side by side."""

from pathlib import Path
from typing import Any

import click

from poise.commands._common import emit, json_option
from poise.errors import RecipeError


@click.command("chat")
@click.argument("models", nargs=-1, required=True, metavar="MODEL [OTHER]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("poise-chat"),
    show_default=True,
    help="What is kept goes here.",
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=0.7, show_default=True, help="0 takes the likeliest."
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=512, show_default=True, help="Of an answer.")
@click.option("--seed", default=0, show_default=True, help="Of all draws.")
@click.option("--chat-template", help="A shipped name or a .jinja file; the model's own by default.")
@json_option
def command(
    models: tuple[str, ...],
    out: Path,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    chat_template: str | None,
    as_json: bool,
) -> None:
    """Talk with a model, or with two side by side.

    MODEL is a run, a model's folder, a Hub id, or URL#NAME on a server. /prefer and /save keep what to train on.
    """
    if len(models) > 2:
        raise RecipeError(f"a chat has one model or two, not {len(models)}")

    def build() -> dict[str, Any]:
        from poise.chat.chat import chat as talk
        from poise.evaluate.answer import Sampling

        return talk(models, out, Sampling(max_new_tokens, temperature, seed), chat_template)

    emit(as_json, build)
