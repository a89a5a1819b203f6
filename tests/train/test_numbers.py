"""Numbers that go bad stop the run before the update, with the step and the rows, and save nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from poise.errors import DivergenceError


@pytest.fixture
def spoiled(base: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the base model with one weight changed."""

    def spoil(value: float, name: str = "model.layers.0.mlp.up_proj.weight") -> Path:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = tmp_path / "spoiled"
        model = AutoModelForCausalLM.from_pretrained(base)
        with torch.no_grad():
            model.get_parameter(name)[0, 0] = value
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(base).save_pretrained(folder)
        return folder

    return spoil


@pytest.mark.parametrize(
    ("verb", "value", "sharing"),
    [("sft", float("nan"), "auto"), ("dpo", float("inf"), "off"), ("orpo", float("nan"), "off")],
)
def test_a_weight_that_is_no_number_stops_the_run_and_saves_no_model(
    verb: str, value: float, sharing: str, tiny: Any, train_run: Any, spoiled: Any, tmp_path: Path
) -> None:
    rows = tiny.uneven_rows(8) if verb == "sft" else tiny.uneven_pairs(8)
    with pytest.raises(DivergenceError) as caught:
        train_run(verb, rows, model_name_or_path=spoiled(value), prefix_sharing=sharing, max_steps=2)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "step 0" in message or "step 1" in message
    assert "run.jsonl:1" in message
    assert not (tmp_path / "run" / "model").exists()
    assert not list((tmp_path / "run").rglob("*.safetensors"))


@pytest.mark.parametrize("clipping", [1.0, 0.0])
def test_an_infinite_gradient_norm_stops_before_the_update(
    clipping: float, tiny: Any, train_run: Any, base: Path, tmp_path: Path
) -> None:
    """A norm's weight of 1e-25 and projections of 1e25 after it: the forward pass is sound, the squares overflow."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base)
    layer = model.model.layers[0]
    with torch.no_grad():
        layer.input_layernorm.weight.mul_(1e-25)
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            projection.weight.mul_(1e25)
    model.save_pretrained(tmp_path / "steep")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "steep")
    with pytest.raises(DivergenceError, match=r"step 1: the gradient norm is inf") as caught:
        train_run("sft", tiny.uneven_rows(8), model_name_or_path=tmp_path / "steep", max_grad_norm=clipping)
    assert "run.jsonl:1" in str(caught.value)
    assert not (tmp_path / "run" / "model").exists()


def test_an_update_that_ruins_the_weights_is_not_saved(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"step 1: this update left weights .* finite: model\.") as caught:
        train_run(
            "sft", tiny.uneven_rows(8), per_device_train_batch_size=2, learning_rate=1e38, lr_scheduler_type="constant",
            save_strategy="steps", save_steps=1,
        )  # fmt: skip
    named = [place for place in (f"run.jsonl:{number})" for number in range(1, 9)) if place in str(caught.value)]
    assert len(named) == 2
    assert not list((tmp_path / "run").rglob("*.safetensors"))
    assert not (tmp_path / "run" / "model").exists()


def test_the_manifest_says_how_a_run_failed(tiny: Any, train_run: Any, spoiled: Any, tmp_path: Path) -> None:
    from poise.run import Run

    with pytest.raises(DivergenceError):
        train_run("sft", tiny.uneven_rows(4), model_name_or_path=spoiled(float("nan")))
    manifest = Run(tmp_path / "run").manifest
    assert manifest["status"] == "failed"
    assert manifest["error"].startswith("NotFiniteError: step 0")


def test_a_first_step_without_any_gradient_stops_the_run(
    tiny: Any, train_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chosen and a rejected log-probability that are cut from the graph move nothing."""
    from poise.objectives.dpo import DPO

    whole = DPO.__call__

    def cut(self: DPO, policy: Any, reference: Any) -> Any:
        losses, metrics = whole(self, policy, reference)
        return losses.detach() + 0 * policy.values.sum(), metrics

    monkeypatch.setattr(DPO, "__call__", cut)
    with pytest.raises(DivergenceError, match="no gradient reaches"):
        train_run("dpo", tiny.uneven_pairs(4), max_steps=2)
