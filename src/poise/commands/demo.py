"""`poise demo`: teach a small model facts and manners, offline."""

from pathlib import Path

import click

from poise.commands._common import emit, json_option


@click.command("demo")
@click.option("--break", "ruin", is_flag=True, help="Run DPO at a ruinous learning rate, to see what catches it.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("poise-demo"), show_default=True)
@click.option("--seed", default=0, show_default=True, help="Seed of the invented world and of training.")
@json_option
def command(ruin: bool, folder: Path, seed: int, as_json: bool) -> None:
    """Teach a small model facts and manners, offline."""
    from poise.demo.demo import run_demo

    emit(as_json, lambda: run_demo(folder, seed=seed, ruin=ruin))
