"""Preference losses through the trainer: however a step is cut it is one step, and every option reaches the loss."""

import math
from typing import Any

import pytest
import torch

WHOLE: dict[str, Any] = {"per_device_train_batch_size": 8, "learning_rate": 2e-3, "num_train_epochs": 2}
CUTS: dict[str, dict[str, Any]] = {
    "1 x 8": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "micro-batches of 40 tokens": {"tokens_per_micro_batch": 40},
}
MPO = {"loss_type": "sigmoid,bco_pair,sft", "loss_weights": "0.8,0.2,1.0"}
WPO = {"use_weighting": True, "ld_alpha": 0.5}


def even_pairs(tiny: Any, count: int) -> list[dict[str, Any]]:
    """Pairs of one word against another, whose margins are close, so that training changes their order."""
    words = tiny.WORDS
    return [
        {"prompt": f"Say {words[i % 20]}", "chosen": words[i * 3 % 20], "rejected": words[(i * 7 + 5) % 20]}
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("verb", "values"),
    [
        ("aot", {}), ("aot_unpaired", {"label_smoothing": 0.1}), ("ipo", {}), ("dpo", WPO), ("dpo", MPO),
        ("aot", {"loss_type": "aot,sigmoid", "use_weighting": True}), ("simpo", {}),
    ],
    ids=["aot", "aot_unpaired", "ipo", "WPO and LD-DPO", "MPO", "a sum with aot", "simpo"],
)  # fmt: skip
def test_cutting_a_step_changes_neither_losses_nor_weights(
    verb: str, values: dict[str, Any], tiny: Any, train_run: Any, weights: Any, losses: Any
) -> None:
    """8 x 1 = 1 x 8, also where a loss sorts the step's pairs."""
    rows = [*tiny.uneven_pairs(8), *even_pairs(tiny, 8)]
    whole = train_run(verb, rows, "whole", **WHOLE | values)
    expected = weights(whole.path / "model")
    assert len(losses(whole)) == 4
    for name, cut in CUTS.items():
        run = train_run(verb, rows, name, **WHOLE | values | cut)
        assert losses(run) == pytest.approx(losses(whole), rel=1e-6), name
        for key, tensor in weights(run.path / "model").items():
            assert torch.allclose(tensor, expected[key], rtol=0, atol=1e-5), f"{name}: {key}"


def test_sorting_a_part_of_a_step_would_be_another_loss(tiny: Any, train_run: Any, losses: Any) -> None:
    """Steps of one pair sort nothing, so aot is dpo there; steps of eight pairs are not."""
    rows = even_pairs(tiny, 8)
    steps = {"per_device_train_batch_size": 8, "learning_rate": 1e-2, "num_train_epochs": 3}
    aot, dpo = (train_run(verb, rows, f"{verb}-8", **steps) for verb in ("aot", "dpo"))
    assert losses(aot)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(aot)[2] != pytest.approx(losses(dpo)[2], rel=1e-4)
    steps |= {"per_device_train_batch_size": 1, "max_steps": 3}
    aot, dpo = (train_run(verb, rows, f"{verb}-1", **steps) for verb in ("aot", "dpo"))
    assert losses(aot) == pytest.approx(losses(dpo), rel=1e-6)


def test_a_sum_logs_its_parts_and_is_told_in_the_run(tiny: Any, train_run: Any) -> None:
    """At the first step sigmoid is ln 2 and bco_pair 2 ln 2, whatever the model."""
    run = train_run("dpo", tiny.uneven_pairs(8), per_device_train_batch_size=8, max_steps=1, **MPO)
    first = next(line for line in run.metrics() if "loss" in line)
    assert first["loss/sigmoid"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["loss/bco_pair"] == pytest.approx(2 * math.log(2), abs=1e-6)
    assert first["loss/sft"] > 0
    assert first["loss"] == pytest.approx(1.2 * math.log(2) + first["loss/sft"], rel=1e-5)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert "loss_type: [sigmoid, bco_pair, sft]" in (run.path / "recipe.resolved.yaml").read_text()
    assert run.manifest["objective"]["loss_weights"] == [0.8, 0.2, 1.0]


@pytest.mark.parametrize(
    "verb",
    [
        "aot", "aot_unpaired", "apo_down", "apo_zero", "bco_pair", "cpo", "discopop", "exo_pair", "hinge", "ipo",
        "nca_pair", "nll", "robust", "sigmoid_norm", "simpo", "sppo_hard",
    ],
)  # fmt: skip
def test_every_loss_on_pairs_trains_with_lora(verb: str, tiny: Any, train_run: Any, losses: Any) -> None:
    lora = {"use_peft": True, "lora_r": 4, "lora_target_modules": "all-linear"}
    run = train_run(verb, tiny.uneven_pairs(8), per_device_train_batch_size=4, max_steps=2, **lora)
    assert run.manifest["status"] == "done"
    assert len(losses(run)) == 2
    assert all(math.isfinite(loss) for loss in losses(run))
