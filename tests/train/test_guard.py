"""Faults put into real runs: each stops before the update it would spoil, names its rows, and leaves what was good."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from poise.errors import DivergenceError
from poise.objectives.dpo import DPO
from poise.run import Run
from poise.train.checkpoint import newest_checkpoint

NAN, INF = float("nan"), float("inf")
WEIGHT = "model.layers.0.mlp.up_proj.weight"
STEPS = {
    "per_device_train_batch_size": 2,
    "max_steps": 6,
    "learning_rate": 1e-3,
    "save_strategy": "steps",
    "save_steps": 1,
}


class Fault:
    """What is put into the objective: at which of its training (or held-out) calls, and where."""

    def __init__(self, where: str, value: float, step: int) -> None:
        self.where, self.value, self.step = where, value, step
        self.training = self.held_out = 0

    def __call__(self, objective: DPO, policy: Any, reference: Any, whole: Callable[..., Any]) -> Any:
        """Compute the loss with the fault in it, if it is time."""
        training = torch.is_grad_enabled()
        self.training += training
        self.held_out += not training
        here = training != (self.where == "held-out") and self.step == (self.training if training else self.held_out)
        if here and self.where == "log-probabilities":
            policy.values.data.fill_(self.value)
        if here and self.where == "gradient":
            policy.values.register_hook(lambda gradient: gradient * self.value)
        losses, metrics = whole(objective, policy, reference)
        spoiled = here and self.where in ("loss", "held-out")
        return (losses + self.value if spoiled else losses), metrics


@pytest.fixture
def updates() -> Iterator[list[int]]:
    """Count the optimizer's updates."""
    made: list[int] = []
    hook = register_optimizer_step_post_hook(lambda *_: made.append(1))
    yield made
    hook.remove()


@pytest.fixture
def data(tiny: Any, tmp_path: Path) -> Path:
    """Pairs to train on and pairs to hold out."""
    tiny.write_rows(tmp_path / "pairs" / "train.jsonl", tiny.uneven_pairs(12))
    tiny.write_rows(tmp_path / "pairs" / "test.jsonl", tiny.uneven_pairs(20)[12:])
    return tmp_path / "pairs"


def without_numbers(folder: Path) -> list[str]:
    """Name the tensors of saved models that hold anything but finite numbers."""
    from safetensors.torch import load_file

    files = sorted(folder.rglob("model*.safetensors"))
    return [name for file in files for name, tensor in load_file(file).items() if not tensor.isfinite().all()]


def spoil(folder: Path, base: Path) -> Path:
    """Copy a model with one weight that is no number."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.get_parameter(WEIGHT)[0, 0] = NAN
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture
def spoil_after(updates: list[int]) -> Iterator[Callable[[int], None]]:
    """Let the update of a step leave a weight that is no number."""
    hooks: list[Any] = []

    def arm(step: int) -> None:
        def spoil_weight(optimizer: Any, *_: Any) -> None:
            if len(updates) == step:
                optimizer.param_groups[0]["params"][0].data[0, 0] = NAN

        hooks.append(register_optimizer_step_post_hook(spoil_weight))

    yield arm
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize(
    ("where", "value"),
    [("weights", NAN), ("gradient", NAN), ("gradient", INF), ("loss", INF), ("log-probabilities", NAN),
     ("held-out", NAN)],
)  # fmt: skip
def test_every_fault_stops_the_run_before_the_update_and_keeps_what_was_good(
    where: str, value: float, step: int, data: Path, train_run: Any, base: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, updates: list[int], spoil_after: Callable[[int], None],
) -> None:  # fmt: skip
    settings: dict[str, Any] = dict(STEPS)
    made, kept = step - 1, step
    if where == "held-out":  # before the first update, or after the fourth
        settings |= {
            "dataset_test_split": "test",
            "eval_strategy": "steps",
            "eval_steps": 4,
            "eval_on_start": step == 1,
        }
        made = kept = 0 if step == 1 else 4
        step = 1
    if where == "weights" and step == 1:
        settings |= {"model_name_or_path": spoil(tmp_path / "spoiled", base)}
        kept = 0
    elif where == "weights":
        spoil_after(step)
        made = step
    else:
        put_in(Fault(where, value, step), monkeypatch)
    with pytest.raises(DivergenceError, match=rf"step {kept}: ") as caught:
        train_run("dpo", data, **settings)
    run = Run(tmp_path / "run")
    assert caught.value.exit_code == 3
    assert len(updates) == made
    batch = json.loads((run.path / "replay" / f"step-{kept}.json").read_text())
    assert batch["rows"]
    for row in batch["rows"][:8]:
        assert row["id"] in str(caught.value)
        assert row["segments"][0]["text"].startswith("<|im_start|>user\nSay ")
    good = max(0, min(made, kept - 1) if where != "held-out" else made - 1)
    checkpoint = newest_checkpoint(run.path / "checkpoints")
    assert (checkpoint.step if checkpoint else 0) == good
    assert not without_numbers(run.path)
    assert not (run.path / "model").exists()
    assert run.manifest["status"] == "failed"


def put_in(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an objective have a fault from now on."""
    whole = DPO.__call__
    monkeypatch.setattr(
        DPO, "__call__", lambda objective, policy, reference: fault(objective, policy, reference, whole)
    )


def test_a_rolled_back_run_goes_on_without_the_rows_and_resumes_to_the_same_weights(
    data: Path, train_run: Any, monkeypatch: pytest.MonkeyPatch, weights: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = STEPS | {"on_divergence": "rollback", "max_steps": 8, "save_total_limit": 20}
    put_in(Fault("loss", NAN, 4), monkeypatch)
    run = train_run("dpo", data, report=True, **settings)
    (went_back,) = run.manifest["rollbacks"]
    batch = json.loads((run.path / "replay" / "step-4.json").read_text())
    assert went_back["to"] == 3
    assert [row["id"] for row in went_back["rows"]] == [row["id"] for row in batch["rows"]]
    assert run.manifest["status"] == "done"
    assert "without the 2 rows" in run.manifest["warnings"][-1]
    assert "went back to checkpoint-3" in capsys.readouterr().err
    assert "went back to checkpoint-3" in (run.path / "report.html").read_text()
    assert [line["step"] for line in run.metrics() if "loss" in line] == list(range(1, 9))
    assert not without_numbers(run.path)
    first = weights(run.path / "model")
    for step in (5, 6, 7, 8):
        (run.path / "checkpoints" / f"checkpoint-{step}").rename(run.path / f"moved-{step}")
    again = train_run("dpo", data, resume=True, **settings)
    assert all(torch.equal(first[key], tensor) for key, tensor in weights(again.path / "model").items())


def test_a_learning_rate_that_ruins_the_model_is_stopped_although_no_loss_is_nan(
    tiny: Any, train_run: Any, tmp_path: Path
) -> None:
    with pytest.raises(DivergenceError, match=r"step 4: training diverges: the loss is .* for 3 steps") as caught:
        train_run("sft", tiny.uneven_rows(24), **STEPS | {"learning_rate": 10.0, "save_total_limit": 1})
    assert caught.value.exit_code == 3
    assert "run.jsonl:" in str(caught.value)
    assert (tmp_path / "run" / "replay" / "step-4.json").is_file()
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-1").is_dir()  # not rotated away by those in doubt
    assert not (tmp_path / "run" / "model").exists()


def test_a_run_goes_back_three_times_at_most(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    settings = STEPS | {"learning_rate": 10.0, "on_divergence": "rollback"}
    with pytest.raises(DivergenceError, match="this run went back 3 times already"):
        train_run("sft", tiny.uneven_rows(48), **settings)
    run = Run(tmp_path / "run")
    assert [each["to"] for each in run.manifest["rollbacks"]] == [1, 1, 1]
    left_out = [row["id"] for each in run.manifest["rollbacks"] for row in each["rows"]]
    assert len(set(left_out)) == len(left_out) > 12


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(
    data: Path, train_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(Fault("loss", NAN, 2), monkeypatch)
    with pytest.raises(DivergenceError, match="no checkpoint from before step 2 to go back to"):
        train_run("dpo", data, **STEPS | {"on_divergence": "rollback", "save_strategy": "no"})


def test_a_run_that_is_only_to_warn_goes_on_and_says_so_once(
    tiny: Any, train_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = STEPS | {"learning_rate": 10.0, "on_divergence": "warn", "save_strategy": "no"}
    run = train_run("sft", tiny.uneven_rows(24), report=True, **settings)
    assert run.manifest["status"] == "done"
    assert capsys.readouterr().err.count("training diverges") == 1
    assert "training diverges" in (run.path / "report.html").read_text()
