"""Where a run starts from: afresh, or a checkpoint of the same rows."""

from pathlib import Path

from poise import progress
from poise.errors import RunError
from poise.run import Run
from poise.train.checkpoint import newest_checkpoint


def starting_point(run: Run, resume: bool, overwrite: bool) -> Path | None:
    """Return the checkpoint to go on from, or None to start afresh; an old run is never mixed with a new one."""
    checkpoint = newest_checkpoint(run.path / "checkpoints")
    if resume:
        if checkpoint is None:
            raise RunError(f"--resume: {run.path} holds no complete checkpoint; start without --resume")
        progress.say(f"resuming from {checkpoint}")
        return checkpoint
    if run.is_begun and not overwrite:
        status = run.manifest.get("status")
        go_on = "go on with --resume, or " if checkpoint and status != "done" else ""
        raise RunError(
            f"{run.path} already holds a run (status: {status})\n"
            f"    to do:  {go_on}replace it with --overwrite, or name another output_dir"
        )
    if run.manifest:
        run.clear()
    return None


def refuse_other_rows(run: Run, sha256: str) -> None:
    """Refuse to go on with other rows than the checkpoint was trained on: its place in them would mean nothing."""
    before = run.manifest.get("data", {}).get("sha256", sha256)
    if before != sha256:
        raise RunError(
            f"--resume: the rows have changed since {run.path} was started ({before[:12]}… then, {sha256[:12]}… now)\n"
            "    why:    some rows would be trained on twice and others never\n"
            "    to do:  restore data, template and max_length, or start anew with --overwrite"
        )
