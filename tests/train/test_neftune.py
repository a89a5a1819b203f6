"""NEFTune through the Trainer: it acts, repeats itself, and transformers' own hook stays out."""

from typing import Any

import pytest
import torch

STEPS = {"per_device_train_batch_size": 4, "max_steps": 4, "learning_rate": 3e-4}


def test_training_runs_with_noise_and_repeats_it(tiny: Any, train_run: Any, weights: Any, losses: Any) -> None:
    rows = tiny.uneven_rows(16)
    runs = {
        name: train_run("sft", rows, name, **STEPS | more)
        for name, more in {
            "plain": {},
            "noisy": {"neftune_noise_alpha": 5},
            "again": {"neftune_noise_alpha": 5},
        }.items()
    }
    assert losses(runs["noisy"]) == losses(runs["again"])
    assert losses(runs["noisy"]) != losses(runs["plain"])
    first, second = (weights(runs[name].path / "model") for name in ("noisy", "again"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_resumed_run_draws_the_noise_it_would_have_drawn(tiny: Any, train_run: Any, weights: Any) -> None:
    rows = tiny.uneven_rows(16)
    noisy = STEPS | {"neftune_noise_alpha": 5, "save_strategy": "steps", "save_steps": 2}
    whole = train_run("sft", rows, "whole", **noisy)
    stopped = train_run("sft", rows, "stopped", **noisy)
    for checkpoint in stopped.path.glob("checkpoints/checkpoint-4/*"):
        checkpoint.unlink()
    (stopped.path / "checkpoints" / "checkpoint-4").rmdir()
    resumed = train_run("sft", rows, "stopped", resume=True, **noisy)
    first, second = weights(whole.path / "model"), weights(resumed.path / "model")
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("alpha", [5, 0])
def test_transformers_hook_stays_out(alpha: float, tmp_path: Any, base: Any, tiny: Any) -> None:
    """It would scale the noise by the length of the flat row."""
    from poise.recipe import load_recipe
    from poise.run import Run
    from poise.train.arguments import training_arguments
    from poise.train.model import choose_hardware

    data = tiny.write_rows(tmp_path / "rows.jsonl", tiny.uneven_rows(4))
    overrides = tiny.settings(
        model_name_or_path=base, dataset_name=data, output_dir=tmp_path / "run", neftune_noise_alpha=alpha
    )
    recipe = load_recipe("sft", None, overrides)
    assert recipe.training["neftune_noise_alpha"] == alpha
    hardware = choose_hardware(recipe.model, bf16=False, use_cpu=True)
    assert training_arguments(recipe, Run(tmp_path / "run"), hardware).neftune_noise_alpha is None


def test_pairs_start_at_a_margin_of_noise_alone(tiny: Any, train_run: Any) -> None:
    """The reference and the held-out rows are scored without noise, the policy in training with it."""
    run = train_run("dpo", tiny.uneven_pairs(8), **STEPS | {"max_steps": 1, "neftune_noise_alpha": 5})
    plain = train_run("dpo", tiny.uneven_pairs(8), "plain", **STEPS | {"max_steps": 1})
    assert plain.metrics()[0]["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert 1e-5 < abs(run.metrics()[0]["rewards/margins"]) < 1
