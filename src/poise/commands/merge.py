"""`poise merge`: merge a run's adapter into its base, and compare."""

from pathlib import Path
from typing import Any

import click

from poise.commands._common import emit, json_option


@click.command("merge")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; RUN-merged by default.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="That of the base by default.")
@click.option("--tolerance", type=float, help="Largest difference of a logit; 1e-5 in float32 by default.")
@click.option("--overwrite", is_flag=True, help="Replace what is in --out.")
@json_option
def command(run: Path, out: Path | None, dtype: Any, tolerance: float | None, overwrite: bool, as_json: bool) -> None:
    """Merge a run's adapter into its base, and compare.

    The merged model is read back from disk and must answer as the unmerged one does; else it is refused.
    """

    def build() -> dict[str, Any]:
        from poise.publish.merge import merge as make

        return make(run, out, dtype=dtype, tolerance=tolerance, overwrite=overwrite)

    emit(as_json, build)
