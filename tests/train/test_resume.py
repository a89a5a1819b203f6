"""A run that is stopped goes on as if it had not been: bitwise the same weights, metrics that continue."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from poise.errors import ResourceError, RunError

HOLD = """
import sys, pathlib, poise.run
poise.run.Run(pathlib.Path(sys.argv[1])).lock()
print("held", flush=True)
input()
"""


def test_preferences_resume_to_the_same_weights(tiny: Any, tmp_path: Path, train_run: Any, weights: Any) -> None:
    steps = {"per_device_train_batch_size": 4, "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 5}
    rows = tiny.uneven_pairs(16)
    whole = train_run("dpo", rows, "whole", **steps, learning_rate=1e-3)
    for name in ("model", "checkpoints/checkpoint-12", "checkpoints/checkpoint-10"):
        if name != "checkpoints/checkpoint-10":
            (whole.path / name).rename(tmp_path / name.rpartition("/")[2])
    train_run("dpo", rows, "whole", resume=True, **steps, learning_rate=1e-3)
    ours, theirs = weights(whole.path / "model"), weights(tmp_path / "model")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_folder_that_holds_a_run_is_refused_and_left_as_it_is(tiny: Any, train_run: Any) -> None:
    run = train_run("sft", tiny.uneven_rows(4), max_steps=1)
    before = (run.path / "manifest.json").read_text()
    with pytest.raises(RunError, match=r"already holds a run \(status: done\)(?s:.*)--overwrite") as caught:
        train_run("sft", tiny.uneven_rows(4), max_steps=1)
    assert caught.value.exit_code == 2
    assert (run.path / "manifest.json").read_text() == before


def test_overwriting_leaves_foreign_files_alone(tiny: Any, train_run: Any) -> None:
    run = train_run("sft", tiny.uneven_rows(4), max_steps=1)
    (run.path / "notes.txt").write_text("mine")
    (run.path / "report.html").write_text("old")
    train_run("sft", tiny.uneven_rows(4), max_steps=2, overwrite=True, report=True)
    assert (run.path / "notes.txt").read_text() == "mine"
    assert (run.path / "report.html").read_text() != "old"
    assert [line["step"] for line in run.metrics() if "loss" in line] == [1, 2]


def test_a_run_that_failed_before_its_first_step_can_simply_be_started_again(
    tiny: Any, train_run: Any, tmp_path: Path
) -> None:
    from poise.errors import DataError

    with pytest.raises(DataError):
        train_run("sft", [{"messages": "not turns"}])
    train_run("sft", tiny.uneven_rows(4), max_steps=1)


def test_resuming_needs_a_checkpoint(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no complete checkpoint; start without --resume"):
        train_run("sft", tiny.uneven_rows(4), resume=True)


def test_a_checkpoint_on_other_data_is_not_resumed(tiny: Any, train_run: Any) -> None:
    steps = {"per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2}
    train_run("sft", tiny.uneven_rows(16), **steps)
    with pytest.raises(RunError, match=r"not the run that was started: (?s:.*)rows .*refused"):
        train_run("sft", tiny.uneven_rows(17), resume=True, **steps)


def test_what_a_killed_process_left_is_passed_over_and_cleared(tiny: Any, train_run: Any) -> None:
    from poise.train.checkpoint import newest_checkpoint

    steps = {"per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2}
    run = train_run("sft", tiny.uneven_rows(16), **steps)
    checkpoints = run.path / "checkpoints"
    dead = subprocess.Popen(["true"])
    dead.wait()
    stale = checkpoints / f".staging-{socket.gethostname()}-{dead.pid}-1.00"
    stale.mkdir()
    (stale / "trainer_state.json").write_text("{}")
    (checkpoints / "checkpoint-99").mkdir()
    newest = newest_checkpoint(checkpoints)
    assert newest is not None and newest.path == checkpoints / "checkpoint-4"
    (checkpoints / "checkpoint-4").rename(run.path / "away")
    train_run("sft", tiny.uneven_rows(16), resume=True, **steps)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-2", "checkpoint-4", "checkpoint-99"]


def test_a_second_process_in_the_same_folder_is_refused_with_the_holders_number(
    tiny: Any, base: Path, tmp_path: Path, train_run: Any
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ResourceError, match=f"in use by process {holder.pid} ") as caught:
            train_run("sft", tiny.uneven_rows(4), max_steps=1)
        assert caught.value.exit_code == 4
    finally:
        holder.kill()
        holder.communicate()
    train_run("sft", tiny.uneven_rows(4), max_steps=1)


def test_the_lock_of_an_earlier_process_with_our_number_is_taken_over(
    tiny: Any, train_run: Any, tmp_path: Path
) -> None:
    """In a container every process is number 7: the start time tells them apart."""
    (tmp_path / "run").mkdir()
    lock = {"pid": os.getpid(), "host": socket.gethostname(), "since": 1.0}
    (tmp_path / "run" / ".lock").write_text(json.dumps(lock))
    train_run("sft", tiny.uneven_rows(4), max_steps=1)
