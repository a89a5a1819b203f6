"""Where a run starts from: afresh, or the newest checkpoint that verifies, of what is still the same run."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from poise import __version__, progress
from poise.errors import RunError
from poise.recipe import Recipe
from poise.run import Run
from poise.secrets import hidden_within
from poise.train import processes
from poise.train.changes import Change, changes, refuse_changes, table
from poise.train.checkpoint import NAME, Checkpoint, newest_checkpoint
from poise.train.prepare import Prepared, rows_per_step


def starting_point(run: Run, resume: bool, overwrite: bool) -> Checkpoint | None:
    """Return the checkpoint to go on from, or None to start afresh; an old run is never mixed with a new one."""
    run.sweep()
    if resume:
        return _go_on(run)
    if run.is_begun and not overwrite:
        status = run.manifest.get("status")
        go_on = "go on with --resume, or " if _names(run) and status != "done" else ""
        raise RunError(
            f"{run.path} already holds a run (status: {status})\n"
            f"    to do:  {go_on}replace it with --overwrite, or name another output_dir"
        )
    if run.manifest:
        run.clear()
    return None


def _go_on(run: Run) -> Checkpoint | None:
    checkpoint = newest_checkpoint(run.path / "checkpoints")
    if checkpoint is not None:
        progress.say(f"resuming from {checkpoint.path}")
        return checkpoint
    if _names(run):
        raise RunError(
            f"--resume: none of the checkpoints in {run.path} can be used: {', '.join(_names(run))}\n"
            "    to do:  put back what is missing, or start anew with --overwrite"
        )
    if run.manifest and run.manifest.get("status") != "done":
        progress.say(f"{run.path} was stopped before its first checkpoint; it starts from the beginning")
        run.clear()
        return None
    raise RunError(f"--resume: {run.path} holds no complete checkpoint; start without --resume")


def _names(run: Run) -> list[str]:
    return sorted(path.name for path in (run.path / "checkpoints").glob(f"{NAME}*"))


def identity_of(recipe: Recipe, prepared: Prepared, rows_sha256: str) -> dict[str, Any]:
    """Say what a checkpoint of this run belongs to, as far as it is known before the model is loaded."""
    packages = ("torch", "transformers", "peft")
    return {
        "verb": recipe.verb,
        **hidden_within({key: value for section in recipe.sections().values() for key, value in section.items()}),
        "rows": rows_sha256,
        "template": prepared.tokenizer.template_hash,
        "rows of a step": rows_per_step(recipe) * processes.count(),
        "processes": processes.count(),
        "optimizer steps": prepared.optimizer_steps(recipe, processes.count()),
        "poise": __version__,
        **{package: version(package) for package in packages},
    }


def settle(checkpoint: Checkpoint | None, identity: Mapping[str, Any]) -> list[Change]:
    """Return what has changed since the checkpoint; RunError where going on would not be the same run."""
    if checkpoint is None:
        return []
    found = changes(checkpoint.identity, identity, checkpoint.step)
    processes.main_alone(lambda: refuse_changes(found))
    return found


def tell_changes(run: Run, found: list[Change]) -> None:
    """Say what is applied from here on, and keep that in the manifest."""
    if not found:
        return
    progress.say(f"changed since the checkpoint, and applied from here on:\n{table(found)}")
    notes = [f"changed on resuming: {each.key} {each.then} -> {each.now}" for each in found]
    run.update_manifest(notes=[*run.manifest.get("notes", []), *notes])
