"""A run that is killed anywhere goes on to bitwise the weights, losses and counts of one that was not.

Processes are forked from one that has everything imported, and kill themselves at the nth call that changes a file of
the run: so kills fall into start-up, saving, rotation and the final model as well as between them. Others come at a
random time, from outside, and fall into whatever takes the time.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from poise.holder import myself
from poise.run import Run
from poise.sealed import damage

SHORT = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 4,
    "num_train_epochs": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 2,
    "logging_steps": 3,
    "disable_dropout": False,
}
LORA = {"use_peft": True, "lora_r": 2, "lora_dropout": 0.3, "lora_target_modules": "all-linear"}
TUNINGS: dict[str, dict[str, Any]] = {"full": {}, "LoRA with dropout": LORA}
VERBS = ("cpt", "sft", "dpo", "orpo")


@pytest.fixture(scope="module")
def small(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("small"), hidden_size=32, intermediate_size=48)


class Job:
    """Runs of one kind: verb, tuning and rows; each in a folder of its own."""

    def __init__(self, forks: Any, tiny: Any, small: Path, folder: Path, verb: str, **values: Any) -> None:
        self.forks, self.tiny, self.folder, self.verb = forks, tiny, folder, verb
        rows = tiny.uneven_pairs(14) if verb in ("dpo", "orpo") else tiny.uneven_rows(14)
        if verb == "cpt":
            rows = [{"text": " ".join(turn["content"] for turn in row["messages"])} for row in rows]
        data = tiny.write_rows(folder / f"{verb}.jsonl", rows)
        self.values = {"model_name_or_path": small, "dataset_name": data, **SHORT, **values}

    def overrides(self, name: str) -> list[str]:
        return self.tiny.settings(**self.values, output_dir=self.folder / name)

    def start(self, name: str, **fault: Any) -> int:
        """Start as a user would: anew, or with --resume where a run has begun."""
        flags = ["--resume"] if (self.folder / name / "manifest.json").exists() else []
        return self.forks.start(self.verb, self.overrides(name), *flags, log=self.folder / f"{name}.log", **fault)

    def run(self, name: str, **fault: Any) -> int:
        self.start(name, **fault)
        return self.forks.wait()

    def told(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def count_calls(self, name: str) -> int:
        """Run undisturbed; returns how many calls changed files of the run."""
        counted = self.folder / "calls"
        assert self.run(name, folder=str(self.folder / name), counted=str(counted)) == 0, self.told(name)
        return int(counted.read_text())


def outcome(folder: Path, weights: Any) -> dict[str, Any]:
    """What has to be equal: weights to the bit, every logged loss, counts and means of the whole run."""
    run = Run(folder)
    assert damage(folder / "model") is None
    lines = [(line["step"], line["loss"], line["tokens_seen"]) for line in run.metrics() if "loss" in line]
    manifest = run.manifest
    return {
        "lines": lines,
        "status": manifest["status"],
        "train_loss": manifest["train_loss"],
        "tokens_seen": manifest["tokens_seen"],
        "weights": {name: tensor.numpy().tobytes() for name, tensor in weights(folder / "model").items()},
        "checkpoints": sorted(path.name for path in (folder / "checkpoints").iterdir()),
        "left over": [path.name for path in folder.glob(".*")],
    }


def kill_once(job: Job, name: str, calls: int, chance: random.Random, *, from_outside: bool) -> int:
    """Start or go on, and kill; returns the exit code, 0 where the run was through before."""
    if not from_outside:
        nth = chance.randrange(1, calls // 2)
        return job.run(name, folder=str(job.folder / name), nth=nth, what=-signal.SIGKILL)
    pid = job.start(name)
    time.sleep(chance.uniform(0.02, 0.5))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return job.forks.wait()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_run_goes_on_to_the_same_bits(
    verb: str, tuning: str, forks: Any, tiny: Any, small: Path, tmp_path: Path, weights: Any
) -> None:
    killed_often(Job(forks, tiny, small, tmp_path, verb, **TUNINGS[tuning]), weights, kills=5, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_run_killed_very_often_goes_on_to_the_same_bits(
    verb: str, tuning: str, forks: Any, tiny: Any, small: Path, tmp_path: Path, weights: Any
) -> None:
    killed_often(Job(forks, tiny, small, tmp_path, verb, **TUNINGS[tuning]), weights, kills=25, seed=2)


def killed_often(job: Job, weights: Any, *, kills: int, seed: int) -> None:
    """Kill one run after another, up to five times each, and hold each against one that was left alone."""
    if not job.forks.has_faults:
        pytest.skip("no C compiler to build the faults with")
    calls = job.count_calls("whole")
    whole = outcome(job.folder / "whole", weights)
    chance = random.Random(f"{job.verb} {job.values.get('use_peft')} {seed}")
    landed = 0
    for chain in itertools.count():
        name = f"killed-{chain}"
        for attempt in range(5):
            code = kill_once(job, name, calls, chance, from_outside=attempt == 3)
            assert code in (0, -signal.SIGKILL), job.told(name)
            landed += code != 0
            if code == 0 or landed == kills:
                break
        assert code == 0 or job.run(name) == 0, job.told(name)
        assert outcome(job.folder / name, weights) == whole
        if landed == kills:
            return


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("moments", [pytest.param(3, id="3"), pytest.param(25, id="25", marks=pytest.mark.slow)])
@pytest.mark.parametrize("tuning", TUNINGS)
def test_a_signal_at_any_moment_ends_with_code_75_and_goes_on_to_the_same_bits(
    tuning: str, moments: int, forks: Any, tiny: Any, small: Path, tmp_path: Path, weights: Any
) -> None:
    job = Job(forks, tiny, small, tmp_path, "sft", **TUNINGS[tuning])
    began = time.monotonic()
    assert job.run("whole") == 0, job.told("whole")
    seconds = time.monotonic() - began
    whole = outcome(tmp_path / "whole", weights)
    chance = random.Random(tuning)
    stopped = 0
    for moment in range(moments):
        name = f"stopped-{moment}"
        pid = job.start(name)
        time.sleep(0.02 + chance.uniform(0, 0.9 * seconds))
        asked = time.monotonic()
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.kill(pid, signal.SIGTERM if moment % 3 else signal.SIGINT)
        code = job.forks.wait()
        assert time.monotonic() - asked < 30
        assert code in (75, 0), job.told(name)
        if code == 0:  # the signal came after the run had ended its work
            assert status_of(tmp_path / name) == "done"
        else:
            stopped += 1
            assert "Traceback" not in job.told(name)
            assert "to do:  run the same command" in job.told(name)
            assert not (tmp_path / name / ".lock").exists()
            assert not (tmp_path / name / "manifest.json").exists() or status_of(tmp_path / name) != "running"
            assert job.run(name) == 0, job.told(name)
        assert {**outcome(tmp_path / name, weights), "checkpoints": whole["checkpoints"]} == whole
    assert stopped >= moments // 2


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "small packs": {"tokens_per_micro_batch": 48},
    "another process reads": {"dataloader_num_workers": 1},
    "LoRA with dropout": LORA,
    "accumulation": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    "kept reference, or noise": {"reference_cache": True, "neftune_noise_alpha": 5.0},
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_new_process_goes_on_to_the_same_bits(
    verb: str, way: str, forks: Any, tiny: Any, small: Path, tmp_path: Path, weights: Any,
) -> None:  # fmt: skip
    keep = {"save_steps": 1, "save_total_limit": 9}
    values = {key: value for key, value in WAYS[way].items() if key != "reference_cache" or verb == "dpo"}
    if "reference_cache" in values:
        values["reference_cache"] = str(tmp_path / "references")
    if verb == "cpt":  # documents are joined, and would make two rows of 128
        values["max_length"] = 16
    job = Job(forks, tiny, small, tmp_path, verb, **keep, **values)
    assert job.run("run") == 0, job.told("run")
    whole = outcome(tmp_path / "run", weights)
    steps = len(whole["checkpoints"])
    assert steps % 2 == 0 and steps >= 6, "two epochs, and a step inside the first"
    for step in (steps // 2 - 1, steps // 2):  # in an epoch, and at its edge
        for later in range(step + 1, steps + 1):
            shutil.rmtree(tmp_path / "run" / "checkpoints" / f"checkpoint-{later}")
        assert job.run("run") == 0, job.told("run")
        assert f"checkpoint-{step}" in job.told("run").rpartition("resuming from")[2].splitlines()[0]
        assert outcome(tmp_path / "run", weights) == whole


def status_of(folder: Path) -> str:
    return Run(folder).manifest["status"]


def test_a_second_run_in_the_folder_is_refused_before_anything_heavy_is_imported(
    tiny: Any, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / ".lock").write_text(json.dumps(myself()))
    (tmp_path / "held" / "foreign.txt").write_text("mine")
    script = (
        "import sys, poise.cli\n"
        "try: poise.cli.main()\n"
        "except SystemExit as end: sys.exit(end.code if 'torch' not in sys.modules else 99)\n"
    )
    settings = tiny.settings(model_name_or_path=small, dataset_name="rows.jsonl", output_dir=tmp_path / "held")
    done = subprocess.run(
        [sys.executable, "-c", script, "sft", *settings], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert f"in use by process {os.getpid()}" in done.stderr
    assert (tmp_path / "held" / "foreign.txt").read_text() == "mine"
