"""`poise quantize`: write a model with fewer bits, and rehearse it."""

from pathlib import Path
from typing import Any

import click

from poise.commands._common import emit, json_option


@click.command("quantize")
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--to",
    required=True,
    type=click.Choice(["gguf-f16", "gguf-q8_0", "gguf-q4_0", "int8", "int4", "nf4", "gptq"]),
    help="For llama.cpp (gguf-…), or for transformers: torchao, bitsandbytes (nf4), GPTQ.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; MODEL-TO by default.")
@click.option(
    "--run",
    type=click.Path(path_type=Path, exists=True),
    help="Whose prompts and rows it is rehearsed on; found from MODEL by default.",
)
@click.option("--least-agreement", type=click.FloatRange(0, 1), help="Least share of next tokens that are the same.")
@click.option("--most-perplexity", type=click.FloatRange(min=0), help="Most growth of perplexity: 0.01 is 1 %.")
@click.option("--overwrite", is_flag=True, help="Replace what is in --out.")
@json_option
def command(
    model: Path,
    to: str,
    out: Path | None,
    run: Path | None,
    least_agreement: float | None,
    most_perplexity: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a model with fewer bits, and rehearse it.

    Model and export answer the same prompts and read the same rows; rehearsal.json says how they differ.
    """

    def build() -> dict[str, Any]:
        from poise.publish.quantize import quantize as make

        return make(
            model,
            to,
            out,
            run=run,
            least_agreement=least_agreement,
            most_perplexity=most_perplexity,
            overwrite=overwrite,
        )

    emit(as_json, build)
