"""The probe and the forecasts: what a run comes to is known before it, and what it takes is near to that."""

import dataclasses
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poise.batch.row import Row, Segment
from poise.errors import RecipeError
from poise.recipe import load_recipe
from poise.train.forecast import Forecast, checkpoints, evaluations, remember, remembered
from poise.train.micro_steps import Chosen, fit_pace
from poise.train.prepare import prepare
from poise.train.probe import probe
from poise.train.work import Work, forward_price, step_rows, training_price, work_of


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("POISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def recipe_for(tiny: Any, base: Path, tmp_path: Path) -> Any:
    """Write rows and return the overrides of a recipe for them."""

    def overrides(verb: str, count: int = 24, **values: Any) -> list[str]:
        rows = {"sft": tiny.uneven_rows, "cpt": lambda count: [{"text": word} for word in tiny.WORDS[:count]]}
        data = tmp_path / f"{verb}.jsonl"
        if not data.exists():
            tiny.write_rows(data, rows.get(verb, tiny.uneven_pairs)(count))
        chosen = {"model_name_or_path": base, "dataset_name": data, "output_dir": tmp_path / "run", **values}
        return tiny.settings(**chosen)

    return overrides


def probed(verb: str, overrides: list[str]) -> Forecast:
    recipe = load_recipe(verb, None, overrides)
    began = time.monotonic()
    return probe(recipe, prepare(recipe), began)


# What a run computes -------------------------------------------------------------------------------------------------


def a_pair(prompt: int, chosen: int, rejected: int) -> Row:
    return Row("pair", tuple(
        Segment(np.zeros(length, dtype=np.int32), np.full(length, index > 0), 0 if index else -1)
        for index, length in enumerate((prompt, chosen, rejected))
    ))  # fmt: skip


def test_work_is_counted_as_by_hand() -> None:
    """Prompt 4, chosen 3, rejected 2: pairs of query and key 1+2+3+4, then 5+6+7, then 5+6."""
    row = a_pair(4, 3, 2)
    assert work_of([row], "shared") == Work(tokens=9, keys=17, products=10 + 18 + 11, trained=5, pieces=3)
    assert work_of([row], "packed") == Work(tokens=13, keys=13, products=28 + 21, trained=5, pieces=2)
    assert work_of([row, row], "shared").products == 2 * 39


def test_a_forward_pass_costs_what_torch_counts(tiny_llama: Any) -> None:
    """Matrix products as torch counts them; those of attention are fused, so torch counts them one piece at a time."""
    from torch.utils.flop_counter import FlopCounterMode

    from poise.batch.batch import make_batch
    from poise.batch.score import Scorer

    row = a_pair(14, 13, 12)
    scorer, work = Scorer(tiny_llama), work_of([row], "shared")
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        scorer(make_batch([row]))
    by_operator = counted.get_flop_counts()["Global"]
    products = sum(flops for name, flops in by_operator.items() if str(name) in ("aten.mm", "aten.addmm", "aten.bmm"))
    price = forward_price(tiny_llama)
    norms = sum(each.numel() for name, each in tiny_llama.named_parameters() if "norm" in name)
    assert price.token * work.tokens + price.trained * work.trained == products + 2 * norms * work.tokens
    assert price.product == 4 * 32 * 2


def test_training_costs_three_passes_and_two_where_weights_are_frozen(tiny_llama: Any) -> None:
    forward, full = forward_price(tiny_llama), training_price(tiny_llama)
    assert full.token == 3 * forward.token
    assert training_price(tiny_llama, checkpointing=True).token == 4 * forward.token
    tiny_llama.requires_grad_(False)
    assert training_price(tiny_llama).token == 2 * forward.token


@pytest.mark.parametrize("keys", [{}, {"data_seed": 3}, {"dataloader_drop_last": True}])
def test_the_order_of_the_rows_is_known_in_advance(
    keys: dict[str, Any], tiny: Any, recipe_for: Any, train_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poise.train.trainer import PoiseTrainer

    drawn: list[list[str]] = []
    step = PoiseTrainer.training_step

    def noting(self: Any, model: Any, inputs: dict[str, Any], items: Any = None) -> Any:
        drawn.append([row.id for row in inputs["rows"]])
        return step(self, model, inputs, items)

    monkeypatch.setattr(PoiseTrainer, "training_step", noting)
    overrides = recipe_for("sft", 10, per_device_train_batch_size=4, num_train_epochs=2, **keys)
    train_run("sft", tmp_path / "sft.jsonl", per_device_train_batch_size=4, num_train_epochs=2, **keys)
    recipe = load_recipe("sft", None, overrides)
    expected = itertools.islice(step_rows(recipe, prepare(recipe).rendered.train, 4), len(drawn))
    assert drawn == [[row.id for row in rows] for rows in expected]
    assert len(drawn) == (4 if keys.get("dataloader_drop_last") else 6)


def test_seconds_lie_on_the_line_through_the_typical_and_the_largest() -> None:
    """10 operations in 1 s and 20 in 1.5 s: 0.05 s for each above the typical, so 10, 10 and 14 take 3.2 s."""
    rows = {size: [a_pair(size, 1, 1)] for size in (10, 14, 20)}
    chosen = Chosen(rows[20], [rows[10]], operations=lambda group: float(len(group[0].segments[0])))
    pace = fit_pace(chosen, [(rows[20], 1.5), (rows[10], 0.9), (rows[10], 1.1)])
    assert pace.seconds([rows[10], rows[10], rows[14]]) == pytest.approx(3.2)
    alike = fit_pace(Chosen(rows[10], [rows[10]], chosen.operations), [(rows[10], 1.0)])
    assert alike.seconds([rows[14]]) == pytest.approx(1.4)  # nothing to draw a line through but the origin


# The probe -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["sft", "cpt", "dpo", "orpo"])
def test_every_objective_is_forecast(verb: str, recipe_for: Any) -> None:
    forecast = probed(verb, recipe_for(verb, per_device_train_batch_size=4, num_train_epochs=3))
    assert forecast.seconds == pytest.approx(sum(forecast.parts.values()))
    assert ("reference" in forecast.parts) == (verb == "dpo")
    assert {"reading and rendering", "model", "training", "saving"} <= forecast.parts.keys()
    assert min(forecast.parts.values()) > 0
    steps = 15 if verb == "cpt" else 18
    assert 0 < forecast.step_seconds <= forecast.parts["training"] / (steps if verb != "cpt" else 1) + 1e-9
    assert forecast.peak_memory_bytes > 2**27


def test_a_probe_leaves_files_and_random_numbers_as_they_were(
    recipe_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = recipe_for("dpo", reference_cache=True, save_strategy="steps", use_peft=True)
    before = sorted(tmp_path.rglob("*"))
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    probed("dpo", overrides)
    after = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    assert sorted(tmp_path.rglob("*")) == before
    assert after[0] == states[0]
    assert torch.equal(after[1], states[1])
    assert after[2] == states[2]


def test_a_stored_reference_is_not_forecast_again(
    recipe_for: Any, train_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass over all rows is timed from those that are not in the store: 96 before a run of them, none after it."""
    from poise.train import probe as module

    counted: list[int] = []
    missing_from = module.missing_from

    def counting(*arguments: Any) -> list[Row]:
        counted.append(len(missing_from(*arguments)))
        return missing_from(*arguments)

    monkeypatch.setattr(module, "missing_from", counting)
    overrides = recipe_for("dpo", 96, reference_cache=True)
    probed("dpo", overrides)
    train_run("dpo", tmp_path / "dpo.jsonl", reference_cache=True)
    probed("dpo", overrides)
    assert counted == [96, 0]


def test_several_processes_are_refused(recipe_for: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="one process"):
        probed("sft", recipe_for("sft"))


def test_where_memory_runs_out_the_smaller_budget_is_forecast(
    recipe_for: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import LlamaModel

    forward = LlamaModel.forward

    def asking(self: Any, input_ids: torch.Tensor, **others: Any) -> Any:
        if self.training and input_ids.shape[1] > 120:
            torch.empty(1 << 60, dtype=torch.uint8)
        return forward(self, input_ids, **others)

    monkeypatch.setattr(LlamaModel, "forward", asking)
    forecast = probed("sft", recipe_for("sft", per_device_train_batch_size=12))
    assert "memory ran out" in capsys.readouterr().err
    assert forecast.parts["training"] > 0


SCHEDULES: list[dict[str, Any]] = [
    {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 5},
    {"eval_strategy": "steps", "eval_steps": 0.25, "save_strategy": "steps", "save_steps": 0.3, "eval_on_start": True},
    {"eval_strategy": "epoch", "save_strategy": "epoch"},
    {"eval_strategy": "no", "save_strategy": "no"},
]


@pytest.mark.parametrize("keys", SCHEDULES)
def test_evaluations_and_checkpoints_are_counted_as_the_run_makes_them(
    keys: dict[str, Any], tiny: Any, train_run: Any, tmp_path: Path
) -> None:
    """12 rows in steps of 2, twice: 12 steps."""
    tiny.write_rows(tmp_path / "data" / "train.jsonl", tiny.uneven_rows(12))
    tiny.write_rows(tmp_path / "data" / "test.jsonl", tiny.uneven_rows(2))
    common = {"dataset_test_split": "test", "per_device_train_batch_size": 2, "num_train_epochs": 2,
              "save_total_limit": None}  # fmt: skip
    run = train_run("sft", tmp_path / "data", **common, **keys)
    names = {"model_name_or_path": "x", "dataset_name": tmp_path / "data", "output_dir": tmp_path / "y"}
    recipe = load_recipe("sft", None, tiny.settings(**names, **common, **keys))
    evaluated = [line for line in (run.path / "metrics.jsonl").read_text().splitlines() if "eval_loss" in line]
    assert evaluations(recipe, 12) == len(evaluated)
    assert checkpoints(recipe, 12) == len(list(run.path.glob("checkpoints/checkpoint-*")))


# Forecast and run ----------------------------------------------------------------------------------------------------


def test_a_run_finds_the_forecast_of_its_probe(recipe_for: Any, train_run: Any, tmp_path: Path) -> None:
    """Wherever it is written to; another learning rate is another recipe."""
    from poise.plan import plan

    overrides = recipe_for("sft", per_device_train_batch_size=4)
    told = plan(None, overrides, verb="sft", with_data=True, with_probe=True)["forecast"]
    assert not (tmp_path / "run").exists()
    run = train_run("sft", tmp_path / "sft.jsonl", "elsewhere", per_device_train_batch_size=4)
    assert run.manifest["forecast"] == told
    assert told["by"] == "poise plan --probe"
    other = train_run("sft", tmp_path / "sft.jsonl", "other", per_device_train_batch_size=4, learning_rate=1e-3)
    assert other.manifest["forecast"]["by"] == "the run's own first steps"


def test_other_rows_are_another_forecast(recipe_for: Any) -> None:
    recipe = load_recipe("sft", None, recipe_for("sft"))
    forecast = Forecast(1.0, 2, 0.5, {"training": 1.0}, "poise plan --probe")
    file = remember(forecast, recipe, "these rows")
    assert remembered(recipe, "these rows") == forecast
    assert remembered(recipe, "those rows") is None
    file.write_text("{")
    assert remembered(recipe, "these rows") is None


@pytest.mark.parametrize(("steps", "known"), [(1, True), (3, True), (12, True)])
def test_a_run_without_a_probe_forecasts_itself(steps: int, known: bool, tiny: Any, train_run: Any) -> None:
    run = train_run("dpo", tiny.uneven_pairs(24), per_device_train_batch_size=4, max_steps=steps)
    forecast = run.manifest["forecast"]
    assert forecast["by"] == "the run's own first steps"
    assert forecast["seconds"] == pytest.approx(sum(forecast["parts"].values()))
    assert forecast["seconds"] > forecast["parts"]["so far"]
    assert ("training" in forecast["parts"]) == (steps > 4)
    peak = max(line["peak_memory_bytes"] for line in run.metrics())
    assert forecast["peak_memory_bytes"] == pytest.approx(peak, rel=0.15)


def test_a_resumed_run_does_not_take_the_forecast_of_the_whole(recipe_for: Any, train_run: Any, tmp_path: Path) -> None:
    from poise.plan import plan

    keys = {"per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 3, "num_train_epochs": 2}
    plan(None, recipe_for("sft", **keys), verb="sft", with_data=True, with_probe=True)
    run = train_run("sft", tmp_path / "sft.jsonl", **keys)
    assert run.manifest["forecast"]["by"] == "poise plan --probe"
    shutil.rmtree(run.path / "checkpoints" / "checkpoint-12")
    again = train_run("sft", tmp_path / "sft.jsonl", resume=True, **keys)
    assert again.manifest["forecast"]["by"] == "the run's own first steps"


# The command ---------------------------------------------------------------------------------------------------------


def command(*arguments: str, cache: Path, clock: str = "monotonic") -> subprocess.CompletedProcess[str]:
    """Run poise in a process of its own; with `process_time` it counts its own work and not that of others."""
    program = f"import time, sys; time.monotonic = time.{clock}; from poise.cli import main; main()"
    environment = {**os.environ, "POISE_CACHE": str(cache), "OMP_NUM_THREADS": "1", "CI": "1"}
    called = [sys.executable, "-c", program, *arguments]
    return subprocess.run(called, capture_output=True, text=True, env=environment)


def test_probe_and_no_data_exclude_each_other(recipe_for: Any, own_cache: Path) -> None:
    done = command("plan", "--verb", "sft", "--probe", "--no-data", *recipe_for("sft"), cache=own_cache)
    assert done.returncode == 2
    assert "--probe and --no-data exclude each other" in done.stderr


def test_what_may_not_run_is_not_probed(recipe_for: Any, tiny: Any, tmp_path: Path) -> None:
    """All held-out rows are too long."""
    from poise.plan import plan

    tiny.write_rows(tmp_path / "data" / "train.jsonl", tiny.uneven_rows(8))
    tiny.write_rows(tmp_path / "data" / "test.jsonl", [tiny.conversation("Say moon", "moon " * 200)])
    held_out = {"dataset_name": tmp_path / "data", "dataset_test_split": "test", "eval_strategy": "steps"}
    with pytest.raises(RecipeError, match="E415: eval_strategy: steps, and no held-out row is left"):
        plan(None, recipe_for("sft", **held_out), verb="sft", with_data=True, with_probe=True)


@pytest.mark.parametrize("verb", ["dpo"])
def test_memory_is_forecast_within_15_percent(verb: str, recipe_for: Any, own_cache: Path, tmp_path: Path) -> None:
    overrides = recipe_for(verb, 160, num_train_epochs=2, question_count=4)
    planned = command("plan", "--verb", verb, "--probe", "--json", *overrides, cache=own_cache)
    assert planned.returncode == 0, planned.stderr
    told = json.loads(planned.stdout)["forecast"]
    assert told.keys() == {field.name for field in dataclasses.fields(Forecast)}
    assert {"questions before", "questions after"} <= told["parts"].keys()
    done = command(verb, *overrides, cache=own_cache)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    fact = max(line["peak_memory_bytes"] for line in lines)
    assert told["peak_memory_bytes"] == pytest.approx(fact, rel=0.15)
    assert "Forecast by poise plan --probe" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["sft", "dpo"])
def test_time_is_forecast_within_20_percent(verb: str, recipe_for: Any, own_cache: Path, tmp_path: Path) -> None:
    """Of processor time, which other processes do not change; benchmarks/forecast_check.py measures wall time."""
    overrides = recipe_for(verb, 400, num_train_epochs=6)
    for arguments in (["plan", "--verb", verb, "--probe"], [verb]):
        done = command(*arguments, *overrides, cache=own_cache, clock="process_time")
        assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["forecast"]["by"] == "poise plan --probe"
    assert manifest["forecast"]["seconds"] == pytest.approx(manifest["seconds"], rel=0.2)
