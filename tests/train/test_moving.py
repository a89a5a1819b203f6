"""A reference that follows the policy (TR-DPO, arXiv:2404.09656): where it starts, how it moves, what resuming does."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from poise.errors import RunError

LORA = {"use_peft": True, "lora_r": 4, "lora_dropout": 0.0, "lora_target_modules": "all-linear"}
TUNINGS = pytest.mark.parametrize("tuning", [{}, LORA], ids=["full", "LoRA"])
STEPS: dict[str, Any] = {
    "per_device_train_batch_size": 4, "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 1,
    "save_total_limit": 20, "sync_ref_model": True,
}  # fmt: skip


def trained_weights(folder: Path) -> dict[str, Tensor]:
    """What a checkpoint holds of the weights that are trained, named as in the model."""
    from safetensors.torch import load_file

    adapter = folder / "adapter_model.safetensors"
    if not adapter.is_file():
        return load_file(folder / "model.safetensors")
    return {name.replace(".weight", ".default.weight"): value for name, value in load_file(adapter).items()}


def reference_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    found = load_file(folder / "moving_reference" / "weights.safetensors")
    return {name.removeprefix("model."): value for name, value in found.items()}


@pytest.fixture
def following(base: Path) -> Any:
    """A scorer of the tiny model, a batch of pairs, and a reference that moves after every second update by 0.6."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from poise.batch.batch import make_batch
    from poise.batch.objective import MovingReference
    from poise.batch.render import Renderer
    from poise.batch.score import Scorer
    from poise.batch.tokens import prepare_tokenizer
    from poise.examples import Message, PreferencePair
    from poise.train.moving import FollowingReference

    renderer = Renderer(prepare_tokenizer(AutoTokenizer.from_pretrained(base), "chatml"))
    pair = PreferencePair(
        (Message("user", "Say apple"),), (Message("assistant", "apple"),), (Message("assistant", "bread cloud"),)
    )
    scorer = Scorer(AutoModelForCausalLM.from_pretrained(base))
    batch = make_batch(list(renderer.rows([pair])))  # type: ignore[arg-type]
    return scorer, batch, FollowingReference(scorer, MovingReference(mixup=0.6, steps=2))


def test_it_starts_as_the_policy_and_moves_only_when_it_is_time(following: Any) -> None:
    scorer, batch, reference = following
    at_first = reference.logps(batch).values
    assert torch.equal(at_first, scorer(batch).values)
    assert not at_first.requires_grad
    first = {name: weight.clone() for name, weight in reference.weights.items()}
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.add_(0.01)
    assert not torch.equal(scorer(batch).values, at_first)
    reference.follow(1)
    assert torch.equal(reference.logps(batch).values, at_first)
    reference.follow(2)
    policy = dict(scorer.named_parameters())
    for name, weight in reference.weights.items():
        assert torch.allclose(weight, 0.6 * policy[name] + 0.4 * first[name], atol=1e-7)
    assert not torch.equal(reference.logps(batch).values, at_first)


def test_scoring_it_leaves_policy_mode_and_gradients_alone(following: Any) -> None:
    scorer, batch, reference = following
    scorer.train().with_collision = True
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.add_(0.01)
    before = {name: parameter.detach().clone() for name, parameter in scorer.named_parameters()}
    expected = scorer(batch)
    expected.values.sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in scorer.named_parameters()}
    scorer.zero_grad()
    policy = scorer(batch)
    told = reference.logps(batch)  # between a forward pass and its backward pass, as in training
    policy.values.sum().backward()
    assert told.collision is None
    assert scorer.training
    assert scorer.with_collision
    for name, parameter in scorer.named_parameters():
        assert torch.equal(parameter, before[name])
        assert torch.equal(parameter.grad, gradients[name])


@TUNINGS
def test_after_some_updates_it_is_the_mixture_of_the_weights_it_met(
    tuning: dict[str, Any], tiny: Any, train_run: Any
) -> None:
    """Moves after updates 2 and 4: r2 = 0.7 w2 + 0.3 r1, r4 = 0.7 w4 + 0.3 r2, each w from its step's checkpoint."""
    run = train_run(
        "dpo", tiny.uneven_pairs(20), ref_model_mixup_alpha=0.7, ref_model_sync_steps=2, **STEPS | tuning
    )  # fmt: skip
    folders = {step: run.path / "checkpoints" / f"checkpoint-{step}" for step in range(1, 6)}
    policy = {step: trained_weights(folder) for step, folder in folders.items()}
    reference = {step: reference_weights(folder) for step, folder in folders.items()}
    assert reference[1].keys() == policy[1].keys()
    for name, start in reference[1].items():
        second = 0.7 * policy[2][name] + 0.3 * start
        fourth = 0.7 * policy[4][name] + 0.3 * second
        for step, expected in {2: second, 3: second, 4: fourth, 5: fourth}.items():
            assert torch.allclose(reference[step][name], expected, rtol=0, atol=5e-7), (step, name)
    assert any(not torch.equal(reference[1][name], reference[2][name]) for name in reference[1])
    assert run.manifest["reference"] == {"follows": {"mixup": 0.7, "steps": 2}}


def test_it_starts_as_the_base_model(tiny: Any, base: Path, train_run: Any, weights: Any) -> None:
    run = train_run("dpo", tiny.uneven_pairs(4), max_steps=1, **STEPS)
    start, found = weights(base), reference_weights(run.path / "checkpoints" / "checkpoint-1")
    assert all(torch.equal(found[name], start[name]) for name in found)


@TUNINGS
def test_the_loss_is_measured_from_the_moved_reference(
    tuning: dict[str, Any], tiny: Any, train_run: Any, losses: Any
) -> None:
    """Moved all the way after every update, it is the policy again: each step's loss is ln 2, whatever was learned."""
    steps = STEPS | tuning | {"save_strategy": "no", "num_train_epochs": 2}
    moved = train_run("dpo", tiny.uneven_pairs(8), "moved", ref_model_mixup_alpha=1.0, ref_model_sync_steps=1, **steps)
    still = train_run("dpo", tiny.uneven_pairs(8), "still", **steps | {"sync_ref_model": False})
    assert losses(moved) == pytest.approx([math.log(2)] * 4, abs=1e-6)
    assert all(abs(loss - math.log(2)) > 1e-5 for loss in losses(still)[1:])


@TUNINGS
def test_a_resumed_run_has_the_reference_it_had(
    tuning: dict[str, Any], tiny: Any, tmp_path: Path, train_run: Any, weights: Any
) -> None:
    """The reference moved once before the checkpoint and moves once after it."""
    steps = STEPS | tuning | {"num_train_epochs": 3, "save_steps": 5, "ref_model_sync_steps": 4}
    rows = tiny.uneven_pairs(12)
    whole = train_run("dpo", rows, "whole", **steps)
    (whole.path / "model").rename(tmp_path / "expected")
    (whole.path / "checkpoints" / "checkpoint-9").rename(tmp_path / "checkpoint-9")
    resumed = train_run("dpo", rows, "whole", resume=True, **steps)
    ours, theirs = weights(resumed.path / "model"), weights(tmp_path / "expected")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ours, theirs = (reference_weights(folder / "checkpoint-9") for folder in (whole.path / "checkpoints", tmp_path))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_checkpoint_without_the_reference_is_not_resumed(tiny: Any, train_run: Any) -> None:
    steps = STEPS | {"sync_ref_model": False, "save_steps": 2}
    train_run("dpo", tiny.uneven_pairs(12), **steps)
    with pytest.raises(RunError, match=r"sync_ref_model\s+false\s+true\s+refused"):
        train_run("dpo", tiny.uneven_pairs(12), resume=True, **steps | {"sync_ref_model": True})
