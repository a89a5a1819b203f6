"""`poise serve`: serve a model on this machine, in OpenAI's protocol."""

from pathlib import Path
from typing import Any

import click

from poise.commands._common import emit, json_option


@click.command("serve")
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--engine", type=click.Choice(["transformers", "vllm", "llama.cpp"]), help="Chosen by what is installed.")
@click.option("--dry-run", is_flag=True, help="Check the model and print the command.")
@json_option
def command(model: Path, port: int, engine: str | None, dry_run: bool, as_json: bool) -> None:
    """Serve a model on this machine, in OpenAI's protocol.

    transformers, vLLM or llama.cpp does it; requests come from this machine alone.
    """

    def build() -> dict[str, Any]:
        from poise.serve import plan_serving, serve

        serving = plan_serving(model, port, engine)
        told = {"engine": serving.engine, "url": serving.url, "model": serving.name, "command": serving.command}
        return told if dry_run else serve(serving)

    emit(as_json, build, show=lambda told: click.echo(" ".join(told["command"])) if dry_run else None)
