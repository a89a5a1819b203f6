"""What the arms are told: recipes that load, arguments that TRL takes, the same training on both sides."""

from pathlib import Path
from typing import Any

import pytest
import torch

from poise.recipe import load_recipe
from preference import arms_poise, arms_trl
from preference.job import Job
from preference.plan import METHODS, TUNINGS, Cell, arms_of

FACTS = {"max_length": 4096, "packed_length": 2048}


def a_job(method: str, arm: str, tuning: str = "full") -> Job:
    return Job(Cell("tldr", method, tuning, "float32", arm), Path("data"), FACTS, "cpu", 42)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tuning", TUNINGS)
def test_every_recipe_loads(method: str, tuning: str) -> None:
    for arm in (arm for arm in arms_of(method) if arm.startswith("poise")):
        recipe = load_recipe(method, None, defaults=arms_poise.recipe_keys(a_job(method, arm, tuning)))
        assert recipe.poise.prefix_sharing == {"poise": "auto", "poise-unshared": "off", "poise-unpacked": "on"}[arm]
        assert recipe.model.load_in_4bit == (tuning == "qlora")


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")  # TRL's own field
@pytest.mark.parametrize("method", METHODS)
def test_both_sides_train_alike(method: str, tmp_path: Path) -> None:
    """Rate, schedule, batch, seed and the method's own settings, where TRL's configuration has them."""
    config_class, _ = arms_trl.classes(method)
    recipe = load_recipe(method, None, defaults=arms_poise.recipe_keys(a_job(method, "poise")))
    for arm in ("trl", "trl-best"):
        theirs = config_class(output_dir=str(tmp_path), **arms_trl.flags(a_job(method, arm)))
        ours: dict[str, Any] = {**recipe.training, **recipe.objective.model_dump()}
        for key in ("learning_rate", "seed", "warmup_steps", "per_device_train_batch_size", "bf16", "weight_decay",
                    "max_grad_norm", "beta", "simpo_gamma", "cpo_alpha", "label_smoothing"):  # fmt: skip
            if key in ours and hasattr(theirs, key):
                assert getattr(theirs, key) == ours[key], key
        assert theirs.lr_scheduler_type == ours["lr_scheduler_type"] == "linear"
        assert theirs.activation_checkpointing == (arm == "trl")
        assert theirs.max_length == recipe.data.max_length


def test_a_packed_row_is_a_step() -> None:
    packed = arms_trl.flags(a_job("sft", "trl-packed"))
    assert (packed["packing"], packed["max_length"], packed["per_device_train_batch_size"]) == (True, 2048, 1)


def test_padding_counts_as_computed() -> None:
    assert arms_trl.computed_tokens({"input_ids": torch.zeros(4, 7)}) == 28
    sides = {"chosen_input_ids": torch.zeros(2, 5), "rejected_input_ids": torch.zeros(2, 9)}
    assert arms_trl.computed_tokens(sides) == 36  # four sequences of the longer side's 9
