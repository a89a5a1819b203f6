"""Two processes against one, replicated (DDP) and divided (FSDP2): the same losses and the same saved weights."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from poise.errors import DivergenceError
from poise.run import Run
from poise.train.reopened import check_saved

FSDP2 = """
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_cpu_ram_efficient_loading: false
  fsdp_state_dict_type: FULL_STATE_DICT
"""
LAYOUTS = {"ddp": "distributed_type: MULTI_GPU\n", "fsdp2": FSDP2}
COMMON = "compute_environment: LOCAL_MACHINE\nmixed_precision: 'no'\nnum_processes: 2\nmain_process_port: 0\n"
TUNING: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"use_peft": True, "lora_r": 4, "lora_dropout": 0, "lora_target_modules": "all-linear"},
}
STEPS = {"learning_rate": 3e-4, "num_train_epochs": 2, "adam_epsilon": 1e-6}
"""The epsilon is that of tests/train/test_processes.py, for its reason."""


@pytest.fixture
def launched(tiny: Any, base: Path, tmp_path: Path) -> Any:
    """Train by --launch in two processes over gloo, and return the Run and what was told."""

    def train(layout: str, verb: str, rows: list[dict[str, Any]], *flags: str, **values: Any) -> tuple[Run, str]:
        file = tmp_path / f"{layout}.yaml"
        file.write_text(COMMON + LAYOUTS[layout])
        data = tiny.write_rows(tmp_path / "launched.jsonl", rows)
        chosen = {"model_name_or_path": base, "dataset_name": data, "output_dir": tmp_path / "launched", **values}
        done = subprocess.run(
            [sys.executable, "-m", "poise", verb, *tiny.settings(**chosen), "--launch", str(file), *flags],
            capture_output=True,
            text=True,
            timeout=280,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GLOO_SOCKET_IFNAME": "lo"},
        )
        assert done.returncode == 0, done.stderr
        return Run(tmp_path / "launched"), done.stderr

    return train


def agree(run: Run, one: Run, losses: Any, weights: Any) -> tuple[float, float]:
    """Hold two runs against each other; returns the largest differences of losses and of weights."""
    ours, theirs = weights(run.path / "model"), weights(one.path / "model")
    assert ours.keys() == theirs.keys()
    assert {name: each.shape for name, each in ours.items()} == {name: each.shape for name, each in theirs.items()}
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
    lossy = max(abs(mine - other) for mine, other in zip(losses(run), losses(one), strict=True))
    return lossy, apart


@pytest.mark.parametrize(
    ("layout", "verb", "tuning"),
    [
        pytest.param(layout, verb, tuning, marks=() if (layout, verb, tuning) == SAMPLE else pytest.mark.slow)
        for SAMPLE in [("fsdp2", "sft", "full")]
        for layout in LAYOUTS
        for verb in ("sft", "dpo")
        for tuning in TUNING
    ],
)
def test_two_processes_train_what_one_does(
    layout: str, verb: str, tuning: str, tiny: Any, launched: Any, train_run: Any, losses: Any, weights: Any
) -> None:
    rows = tiny.uneven_rows(13) if verb == "sft" else tiny.uneven_pairs(13)
    more = STEPS | TUNING[tuning] | {"tokens_per_micro_batch": 60}
    one = train_run(verb, rows, "one", per_device_train_batch_size=8, **more)
    held = {"save_strategy": "steps", "save_steps": 3, "question_count": 1, "max_new_tokens": 2}
    run, told = launched(layout, verb, rows, per_device_train_batch_size=4, **more | held)
    lossy, apart = agree(run, one, losses, weights)
    print(f"{layout} {verb} {tuning}: losses within {lossy:.1e}, weights within {apart:.1e}")  # noqa: T201
    assert lossy <= 1e-5, told
    assert apart <= 1e-4
    assert len(losses(run)) == 4
    assert run.manifest["processes"] == 2
    assert run.manifest["layout"] == layout.upper()
    assert run.manifest["status"] == "done"
    assert not [file for file in run.path.rglob("*") if file.suffix in (".bin", ".pt", ".pth", ".distcp")]


@pytest.mark.slow
@pytest.mark.parametrize("tuning", TUNING)
def test_a_divided_run_goes_on_from_its_checkpoint_to_the_same_weights(
    tuning: str, tiny: Any, launched: Any, losses: Any, weights: Any
) -> None:
    values = STEPS | TUNING[tuning] | {"per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2}
    run, _ = launched("fsdp2", "sft", tiny.uneven_rows(13), **values)
    whole, expected = weights(run.path / "model"), losses(run)
    newest = run.path / "checkpoints" / "checkpoint-4"
    for each in sorted(newest.rglob("*"), reverse=True):
        each.unlink()
    newest.rmdir()
    (run.path / "model" / "sealed.json").unlink()
    run.update_manifest(status="interrupted")
    run, told = launched("fsdp2", "sft", tiny.uneven_rows(13), "--resume", **values)
    assert losses(run)[-2:] == pytest.approx(expected[-2:], abs=1e-7), told
    ours = weights(run.path / "model")
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


@pytest.mark.parametrize("tuning", TUNING)
def test_what_was_saved_is_opened_again_and_held_against_the_model(
    tuning: str, tiny: Any, train_run: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    run = train_run("sft", tiny.uneven_rows(4), **TUNING[tuning], max_steps=1)
    folder = run.path / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    if tuning == "lora":
        from peft import AutoPeftModelForCausalLM

        model = AutoPeftModelForCausalLM.from_pretrained(folder, is_trainable=True)
    check_saved(model, folder)
    (file,) = folder.glob("*model.safetensors")
    held = load_file(file)
    name = min(held)
    save_file({key: value for key, value in held.items() if key != name}, file)
    with pytest.raises(DivergenceError, match="weights were written"):
        check_saved(model, folder)
    save_file(held | {name: held[name][:0]}, file)
    with pytest.raises(DivergenceError, match="is empty"):
        check_saved(model, folder)
