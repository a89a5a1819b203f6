"""`poise report`: write the report of one run or several stages."""

from pathlib import Path
from typing import Any

import click

from poise.commands._common import emit, evaluations_option, json_option


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN …")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; report.html in the last run by default.")
@evaluations_option("Show")
@json_option
def command(runs: tuple[Path, ...], out: Path | None, evaluations: tuple[Path, ...], as_json: bool) -> None:
    """Write the report of one run or several stages."""
    from poise.pipeline.record import RECORD
    from poise.pipeline.stages.report import report_of
    from poise.report.report import build_report
    from poise.run import Run

    def build() -> dict[str, Any]:
        target = out or runs[-1] / "report.html"
        if len(runs) == 1 and (runs[0] / RECORD).is_file():
            verdict = report_of(runs[0], target, evaluations=evaluations)
        else:
            verdict = build_report([Run.open(path).path for path in runs], target, evaluations=evaluations)
        return {"verdict": verdict.headline, "verdict_level": verdict.level, "report": str(target)}

    emit(as_json, build, show=lambda result: click.echo(f"{result['verdict']}\n{result['report']}"))
