"""What has changed since a checkpoint is applied or refused, and all of it is shown: nothing is passed over."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from poise.errors import RunError
from poise.train.changes import changes, refuse_changes, table

THEN = {
    "verb": "dpo", "learning_rate": 1e-3, "max_steps": 20, "optimizer steps": 20, "seed": 42, "beta": 0.1, "rows": "aa",
    "max_length": 64, "dataset_name": "a.jsonl", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1,
    "rows of a step": 4, "processes": 1, "model_name_or_path": "base", "policy weights": "cc",
    "reference weights": "cc", "lora_r": 8, "optim": "adamw_torch", "lr_scheduler_type": "cosine", "torch": "2.13",
}  # fmt: skip
"""The identity of a run at its checkpoint of step 10."""
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "another learning rate": ({"learning_rate": 1e-5}, True),
    "more steps": ({"max_steps": 30, "optimizer steps": 30}, True),
    "fewer steps": ({"max_steps": 12, "optimizer steps": 12}, True),
    "fewer steps than were made": ({"max_steps": 8, "optimizer steps": 8}, False),
    "another schedule": ({"lr_scheduler_type": "linear"}, True),
    "a schedule that remembers": ({"lr_scheduler_type": "reduce_lr_on_plateau"}, False),
    "logging": ({"logging_steps": 5}, True),
    "saving": ({"save_steps": 5, "save_total_limit": 1}, True),
    "another weight decay": ({"weight_decay": 0.1}, True),
    "micro-batches": ({"tokens_per_micro_batch": 64}, True),
    "another version of torch": ({"torch": "2.14"}, True),
    "another cut of the same batch": ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, True),
    "another batch": ({"per_device_train_batch_size": 2, "rows of a step": 2}, False),
    "other rows": ({"rows": "bb", "dataset_name": "b.jsonl"}, False),
    "a shorter max_length that cuts": ({"rows": "bb", "max_length": 8}, False),
    "the same rows elsewhere": ({"dataset_name": "moved/a.jsonl"}, True),
    "the same model elsewhere": ({"model_name_or_path": "moved/base"}, True),
    "another model": ({"model_name_or_path": "run/model", "policy weights": "dd", "reference weights": "dd"}, False),
    "another reference": ({"ref_model_name_or_path": "other", "reference weights": "dd"}, False),
    "another seed": ({"seed": 7}, False),
    "another beta": ({"beta": 0.2}, False),
    "another objective": ({"verb": "orpo"}, False),
    "another optimizer": ({"optim": "adafactor"}, False),
    "another adapter": ({"lora_r": 4}, False),
    "other processes": ({"processes": 2, "rows of a step": 8}, False),
    "a key nobody thought of": ({"invented": 1}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_every_change_is_applied_or_refused_and_shown(case: str) -> None:
    changed, is_applied = CASES[case]
    found = changes(THEN, THEN | changed, step=10)
    assert {change.key for change in found} == changed.keys()
    assert all(change.is_applied for change in found) is is_applied
    shown = table(found)
    assert all(f"    {key} " in shown for key in changed)
    if is_applied:
        refuse_changes(found)
    else:
        with pytest.raises(RunError, match="this is not the run that was started") as caught:
            refuse_changes(found)
        assert shown in str(caught.value)


def test_the_same_is_no_change() -> None:
    assert changes(THEN, json.loads(json.dumps(THEN)), step=10) == []


def test_the_table_has_what_was_what_is_and_what_becomes_of_it() -> None:
    found = changes(THEN, THEN | {"learning_rate": 1e-5, "seed": 7, "note": None}, step=10)
    assert table(found).splitlines() == [
        "                   then   now",
        "    seed           42     7      refused",
        "    learning_rate  0.001  1e-05  applied",
    ]


STEPS = {"per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}


def test_a_new_learning_rate_holds_from_the_next_step_on(tiny: Any, train_run: Any, capfd: Any) -> None:
    """Cosine without warmup over 4 steps: step n is made with 1/2 (1 + cos(pi (n - 1) / 4)) of the rate."""
    rows = tiny.uneven_rows(16)
    run = train_run("sft", rows, **STEPS)
    (run.path / "checkpoints" / "checkpoint-4").rename(run.path / "away")
    train_run("sft", rows, resume=True, **STEPS | {"learning_rate": 1e-5, "weight_decay": 0.1})
    rates = {line["step"]: line["learning_rate"] for line in run.metrics() if "loss" in line}
    assert rates[2] == pytest.approx(1e-3 * (1 + 0.5**0.5) / 2)
    assert rates[3] == pytest.approx(1e-5 * 0.5)
    assert rates[4] == pytest.approx(1e-5 * (1 - 0.5**0.5) / 2)
    told = capfd.readouterr().err
    assert "learning_rate  0.001  1e-05  applied" in told
    state = json.loads((run.path / "checkpoints" / "checkpoint-4" / "optimizer.json").read_text())
    assert {group["weight_decay"] for group in state["param_groups"]} == {0.1, 0.0}
    assert {group["initial_lr"] for group in state["param_groups"]} == {1e-5}


def test_more_steps_stretch_the_schedule_and_new_intervals_hold(tiny: Any, train_run: Any) -> None:
    rows = tiny.uneven_rows(16)
    run = train_run("sft", rows, **STEPS, max_steps=4)
    train_run("sft", rows, resume=True, **STEPS | {"save_steps": 3, "save_total_limit": 9}, max_steps=7)
    rates = {line["step"]: line["learning_rate"] for line in run.metrics() if "loss" in line}
    assert sorted(rates) == [1, 2, 3, 4, 5, 6, 7]
    assert rates[5] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 4 / 7)))
    saved = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert saved == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-7"]


def test_a_finished_run_makes_no_step_more(tiny: Any, train_run: Any, weights: Any) -> None:
    """In the middle of an epoch transformers would make one."""
    rows = tiny.uneven_rows(16)
    run = train_run("sft", rows, **STEPS, max_steps=3)
    before = weights(run.path / "model")
    train_run("sft", rows, resume=True, **STEPS, max_steps=3)
    after = weights(run.path / "model")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert run.manifest["status"] == "done"


def test_the_trained_model_cannot_become_the_reference_on_the_way(
    tiny: Any, train_run: Any, base: Path, tmp_path: Path
) -> None:
    pairs = tiny.uneven_pairs(16)
    run = train_run("dpo", pairs, **STEPS)
    before = (run.path / "manifest.json").read_text()
    (run.path / "checkpoints" / "checkpoint-4").rename(run.path / "away")
    for other in (run.path / "checkpoints" / "checkpoint-2", run.path / "model"):
        with pytest.raises(RunError, match=r"not the run that was started: (?s:.*)policy weights .*refused"):
            train_run("dpo", pairs, resume=True, model_name_or_path=other, **STEPS)
        assert (run.path / "manifest.json").read_text() == before
    base.rename(tmp_path / "moved")
    try:
        resumed = train_run("dpo", pairs, resume=True, model_name_or_path=tmp_path / "moved", **STEPS)
    finally:
        (tmp_path / "moved").rename(base)
    margins = {line["step"]: line["rewards/margins"] for line in resumed.metrics() if "rewards/margins" in line}
    assert margins[1] == 0
    assert all(margins[step] != 0 for step in (2, 3, 4))
