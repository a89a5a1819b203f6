"""The router loss through the Trainer: part of the loss, the same however a step is cut, and logged."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

CUTS: dict[str, dict[str, Any]] = {
    "1 x 8": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "every row alone": {"tokens_per_micro_batch": 1},
    "nothing shared": {"prefix_sharing": "off"},
}


@pytest.fixture(scope="module")
def experts(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose two layers have four experts each; its config leaves the router loss out."""
    from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

    folder = tiny.make_base(tmp_path_factory.mktemp("experts"))
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)), hidden_size=32, intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        num_local_experts=4, bos_token_id=None, eos_token_id=None, pad_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(folder)
    return folder


def routed(run: Any) -> list[float]:
    return [line["router_loss"] for line in run.metrics() if "router_loss" in line]


@pytest.mark.parametrize(
    ("verb", "cuts"), [("sft", list(CUTS)), ("dpo", ["every row alone"]), ("aot", ["every row alone"])]
)
def test_cutting_a_step_changes_neither_losses_nor_weights(
    verb: str, cuts: list[str], experts: Path, tiny: Any, train_run: Any, weights: Any, losses: Any
) -> None:
    rows = tiny.uneven_rows(16) if verb == "sft" else tiny.uneven_pairs(16)
    steps = {
        "model_name_or_path": experts, "router_aux_loss_coef": 0.5, "learning_rate": 3e-4,
        "per_device_train_batch_size": 8, "num_train_epochs": 1,
    }  # fmt: skip
    whole = train_run(verb, rows, "whole", **steps)
    expected = weights(whole.path / "model")
    assert len(losses(whole)) == len(routed(whole)) == 2
    for name in cuts:
        run = train_run(verb, rows, name, **steps | CUTS[name])
        assert losses(run) == pytest.approx(losses(whole), rel=1e-6), name
        assert routed(run) == pytest.approx(routed(whole), rel=1e-6), name
        for key, tensor in weights(run.path / "model").items():
            assert torch.allclose(tensor, expected[key], rtol=0, atol=1e-5), f"{name}: {key}"


def test_it_is_the_mean_over_rows_added_to_the_loss(
    experts: Path, tiny: Any, train_run: Any, losses: Any, tmp_path: Path
) -> None:
    """Switched on by the model's own config too, with the coefficient that stands there (Mixtral's default, 0.001)."""
    from transformers import AutoConfig

    outspoken = tmp_path / "outspoken"
    shutil.copytree(experts, outspoken)
    config = AutoConfig.from_pretrained(outspoken)
    config.output_router_logits = True
    config.save_pretrained(outspoken)
    step = {"per_device_train_batch_size": 4, "max_steps": 1}
    found = {
        name: train_run("sft", tiny.uneven_rows(4), name, model_name_or_path=model, **step | more)
        for name, model, more in [
            ("without", experts, {}),
            ("by recipe", experts, {"router_aux_loss_coef": 0.5}),
            ("by config", outspoken, {}),
            ("off by recipe", outspoken, {"router_aux_loss_coef": 0}),
        ]
    }
    assert routed(found["without"]) == routed(found["off by recipe"]) == []
    assert losses(found["off by recipe"]) == losses(found["without"])
    (by_recipe,), (by_config,) = routed(found["by recipe"]), routed(found["by config"])
    assert by_recipe > 0.5 * 2  # even use of 2 experts a token is the least
    assert by_config == pytest.approx(0.001 / 0.5 * by_recipe, rel=1e-6)
    (plain,) = losses(found["without"])
    assert losses(found["by recipe"]) == pytest.approx([plain + by_recipe], rel=1e-6)
    assert losses(found["by config"]) == pytest.approx([plain + by_config], rel=1e-6)


def test_training_on_it_alone_spreads_the_tokens(experts: Path, tiny: Any, train_run: Any) -> None:
    run = train_run(
        "sft", tiny.uneven_rows(16), model_name_or_path=experts, router_aux_loss_coef=10.0, learning_rate=3e-3,
        per_device_train_batch_size=8, num_train_epochs=3,
    )  # fmt: skip
    found = routed(run)
    assert found[-1] < found[0]


def test_the_held_out_loss_is_the_objectives_alone(experts: Path, tiny: Any, train_run: Any, tmp_path: Path) -> None:
    rows = tiny.write_rows(tmp_path / "data" / "train.jsonl", tiny.uneven_rows(8))
    tiny.write_rows(tmp_path / "data" / "test.jsonl", tiny.uneven_rows(4))
    evaluated = [
        next(line["eval_loss"] for line in run.metrics() if "eval_loss" in line)
        for coefficient in (0, 0.5)
        for run in [
            train_run(
                "sft", rows.parent, str(coefficient), model_name_or_path=experts, router_aux_loss_coef=coefficient,
                max_steps=1, eval_on_start=True, dataset_test_split="test", eval_strategy="steps", eval_steps=1,
            )
        ]
    ]  # fmt: skip
    assert evaluated[0] == evaluated[1]
