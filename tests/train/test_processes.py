"""Two processes train what one does: the same losses and weights, one folder, one voice, and all end together."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poise.batch.row import Row, Segment
from poise.run import Run
from poise.train.processes import shares

LORA = {"use_peft": True, "lora_r": 4, "lora_dropout": 0, "lora_target_modules": "all-linear"}
STEPS = {"learning_rate": 3e-4, "num_train_epochs": 2, "adam_epsilon": 1e-6}
"""Adam divides a gradient by its own size. With an epsilon of 1e-8 one weight in 100,000, whose gradient is nothing but
rounding, moves by 2e-5 here or there when a step is cut differently, in one process as in two."""
JOBS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "sft, full": ("sft", 13, {}),
    "sft, a step with one row": ("sft", 9, {"max_grad_norm": 0.05}),
    "dpo, LoRA": ("dpo", 13, LORA),
    "dpo, micro-batches of 40 tokens": ("dpo", 13, {"tokens_per_micro_batch": 40}),
    "orpo, full": ("orpo", 13, {}),
    "kto, whole steps": ("kto", 13, {}),
    "aot, a whole step with one pair": ("aot", 9, {"tokens_per_micro_batch": 60}),
}
RESUMED = {
    **LORA,
    "lora_dropout": 0.3,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 2,
    "num_train_epochs": 3,
    "save_strategy": "steps",
    "save_steps": 1000,
}


def rows_for(tiny: Any, verb: str, count: int) -> list[dict[str, Any]]:
    """Return rows of uneven length that a verb trains on."""
    if verb == "sft":
        return tiny.uneven_rows(count)
    pairs = tiny.uneven_pairs(count)
    if verb != "kto":
        return pairs
    return [
        {"prompt": pair["prompt"], "completion": pair["chosen" if index % 3 else "rejected"], "label": index % 3 > 0}
        for index, pair in enumerate(pairs)
    ]


@pytest.fixture(scope="module")
def two(tiny: Any, forks: Any, base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes train, one run after another."""
    folder = tmp_path_factory.mktemp("two")
    jobs: list[tuple[str, list[str], dict[str, Any]]] = []

    def add(name: str, verb: str, rows: list[dict[str, Any]], *flags: str, **values: Any) -> None:
        data = tiny.write_rows(folder / "data" / name / "train.jsonl", rows)
        if "dataset_test_split" in values:
            tiny.write_rows(data.with_name("test.jsonl"), rows[:5])
            data = data.parent
        chosen = {"model_name_or_path": base, "dataset_name": data, "output_dir": folder / name, **values}
        spoil = {"spoil": chosen.pop("spoil")} if "spoil" in chosen else {}
        jobs.append((name, [verb, *tiny.settings(**chosen), *flags], spoil))

    half = STEPS | {"per_device_train_batch_size": 4}
    for name, (verb, count, values) in JOBS.items():
        add(name, verb, rows_for(tiny, verb, count), **half | values)
    store = {"reference_cache": folder / "store", "max_steps": 1}
    held_out = {"dataset_test_split": "test", "eval_strategy": "steps", "eval_steps": 1, "question_count": 2,
                "max_new_tokens": 4}  # fmt: skip
    add("everything", "dpo", tiny.uneven_pairs(18), "--json", **half | store | held_out)
    add("beta", "dpo", tiny.uneven_pairs(18), **half | store | held_out | {"beta": 0.5, "question_count": 0})
    add("uninterrupted", "sft", tiny.uneven_rows(122), **RESUMED)
    add("nan", "sft", tiny.uneven_rows(13), spoil=("nan", 1), **half)
    jobs.append(("again", jobs[0][1], {}))
    jobs.append(("misspelt", ["sft", "learning_rat=1"], {}))
    codes: dict[str, list[int]] = {}
    for name, (verb, *words), spoil in jobs:
        forks.start_all(2, verb, words, log=folder / "told", out=str(folder / "out"), bare=False, **spoil)
        codes[name] = forks.wait_all()
    return {"folder": folder, "codes": codes} | {name: (folder / name).read_text() for name in ("out", "told")}


@pytest.mark.parametrize("name", JOBS)
def test_two_processes_train_what_one_does(
    name: str, two: dict[str, Any], tiny: Any, train_run: Any, weights: Any, losses: Any
) -> None:
    verb, count, values = JOBS[name]
    one = train_run(verb, rows_for(tiny, verb, count), **STEPS | {"per_device_train_batch_size": 8} | values)
    run = Run(two["folder"] / name)
    assert losses(run) == pytest.approx(losses(one), rel=1e-6), two["told"]
    assert len(losses(run)) == 4
    for ours, theirs in zip(run.metrics(), one.metrics(), strict=True):
        assert ours.keys() == theirs.keys()
        measured = [key for key in ours if key.partition("/")[0] in ("rewards", "logps", "grad_norm", "tokens_seen")]
        for key in measured:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-5), key
    expected = weights(one.path / "model")
    ours = weights(run.path / "model")
    assert ours.keys() == expected.keys()
    assert all(torch.allclose(ours[key], expected[key], rtol=0, atol=1e-5) for key in expected)
    assert run.manifest["optimizer_steps"] == one.manifest["optimizer_steps"] == 4
    assert run.manifest["processes"] == 2


def test_the_main_process_alone_writes_and_speaks(two: dict[str, Any], train_run: Any) -> None:
    run = Run(two["folder"] / "everything")
    result = json.loads(two["out"].strip().splitlines()[-1])
    assert two["out"].count('"verb": "dpo"') == 1
    assert result["status"] == run.manifest["status"] == "done"
    assert run.ledger()["in"] == 23
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 1]
    assert {path.name for path in run.path.iterdir()} == {
        "manifest.json", "recipe.resolved.yaml", "ledger.jsonl", "ledger.json", "metrics.jsonl", "samples.jsonl",
        "evidence.json", "answers", "checkpoints", "model", "report.html",
    }  # fmt: skip
    assert two["told"].count("· cpu, float32 weights") == len(two["codes"]) - 2
    one = train_run(
        "dpo", two["folder"] / "data" / "everything", **STEPS, per_device_train_batch_size=8, max_steps=1,
        dataset_test_split="test", eval_strategy="steps", eval_steps=1,
    )  # fmt: skip
    ours, theirs = run.metrics()[0], one.metrics()[0]
    assert {key for key in ours if key.startswith("eval_")} == {key for key in theirs if key.startswith("eval_")}
    for key in theirs:
        if key.startswith("eval_"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5, abs=1e-6), key


def test_processes_share_the_reference_pass_and_its_store(two: dict[str, Any]) -> None:
    assert Run(two["folder"] / "everything").manifest["reference"]["computed"] == 23 - 5
    files = list((two["folder"] / "store").glob("reference/*/*.safetensors"))
    assert len(files) == 2
    swept = Run(two["folder"] / "beta").manifest["reference"]
    assert swept["computed"] == 0
    assert two["told"].count("all 18 rows reused from") == 1


def test_what_all_processes_meet_is_told_once(two: dict[str, Any]) -> None:
    told = two["told"]
    assert told.count("already holds a run (status: done)") == 1
    assert told.count("unknown key 'learning_rat'") == 1
    assert told.count("step 3: the loss is nan") == 1
    assert "defect of poise" not in told
    assert Run(two["folder"] / "nan").manifest["status"] == "failed"
    assert not any(two["folder"].glob("*/.lock"))
    expected = dict.fromkeys([*JOBS, "everything", "beta", "uninterrupted"], 0) | {"nan": 3, "again": 2, "misspelt": 2}
    assert two["codes"] == {name: [code, code] for name, code in expected.items()}


def test_a_stopped_run_of_two_processes_resumes_to_the_same_weights(
    two: dict[str, Any], tiny: Any, forks: Any, base: Path, tmp_path: Path, weights: Any
) -> None:
    data = two["folder"] / "data" / "uninterrupted" / "train.jsonl"
    settings = {"model_name_or_path": base, "dataset_name": data, "output_dir": tmp_path / "run"}
    command = tiny.settings(**settings | RESUMED)
    numbers, deadline = forks.start_all(2, "sft", command, log=tmp_path / "told"), time.monotonic() + 90
    metrics = tmp_path / "run" / "metrics.jsonl"
    while time.monotonic() < deadline and not (metrics.is_file() and '"step": 20' in metrics.read_text()):
        time.sleep(0.01)
    for number in numbers:  # as torchrun passes a signal on
        os.kill(number, signal.SIGTERM)
    assert forks.wait_all() == [75, 75]
    run, told = Run(tmp_path / "run"), (tmp_path / "told").read_text()
    assert run.manifest["status"] == "interrupted", told
    assert told.count("SIGTERM: finishing this step") == 1
    assert told.count("stopped by SIGTERM after step") == 1
    assert not (run.path / ".lock").exists()
    (checkpoint,) = (run.path / "checkpoints").iterdir()
    assert 20 <= int(checkpoint.name.split("-")[1]) < 93
    assert {path.stem for path in checkpoint.glob("process-*.json")} == {"process-0", "process-1"}
    forks.start_all(2, "sft", command, "--resume", log=tmp_path / "told")
    assert forks.wait_all() == [0, 0], (tmp_path / "told").read_text()
    ours, theirs = weights(run.path / "model"), weights(two["folder"] / "uninterrupted" / "model")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert [line["step"] for line in run.metrics()] == list(range(1, 94))


@pytest.mark.parametrize(
    ("how", "said", "kept"),
    [
        (
            "error",
            "process 1: this is a defect of poise: ArithmeticError: the sky fell",
            "ArithmeticError: the sky fell",
        ),
        (
            "kill",
            "error: another process of this run ended without a word",
            "another process of this run ended without a word, and training cannot go on without it",
        ),
    ],
)
def test_one_process_that_fails_does_not_leave_the_other_waiting(
    how: str, said: str, kept: str, tiny: Any, forks: Any, base: Path, tmp_path: Path
) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", tiny.uneven_rows(24))
    settings = {"model_name_or_path": base, "dataset_name": data, "output_dir": tmp_path / "run"}
    overrides = tiny.settings(**settings, per_device_train_batch_size=4)
    began = time.monotonic()
    forks.start_all(2, "sft", overrides, log=tmp_path / "told", spoil=[how, 1])
    codes, told = forks.wait_all(), (tmp_path / "told").read_text()
    assert all(codes)
    assert time.monotonic() - began < 60
    assert told.count(said) == told.count("error: ") == 1, told
    assert Run(tmp_path / "run").manifest["error"] == kept
    assert not (tmp_path / "run" / ".lock").exists()


def test_one_process_uses_one_of_several_gpus_and_says_so(
    tiny: Any, train_run: Any, losses: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers would run one copy of the model on each in one process, and multiply the batch."""
    from transformers import TrainingArguments

    expected = losses(train_run("sft", tiny.uneven_rows(8), "one", per_device_train_batch_size=4))
    after_init = TrainingArguments.__post_init__

    def with_four(self: TrainingArguments) -> None:
        after_init(self)
        self._n_gpu = 4  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_four)
    run = train_run("sft", tiny.uneven_rows(8), "four", per_device_train_batch_size=4)
    assert losses(run) == expected
    assert "note: one of 4 GPUs is used; for all of them: poise sft … --launch" in capsys.readouterr().err


@pytest.mark.parametrize("hands", [1, 2, 3, 8])
def test_rows_are_dealt_once_each_and_evenly(hands: int) -> None:
    lengths = [9, 1, 7, 3, 5, 2, 8]
    rows = [Row(str(length), (Segment(np.zeros(length, np.int32), np.ones(length, np.bool_)),)) for length in lengths]
    dealt = shares(rows, lambda row: row.tokens, hands)
    assert len(dealt) == hands
    assert sorted(row.tokens for share in dealt for row in share) == sorted(lengths)
    assert all(share == [row for row in rows if row in share] for share in dealt)
    most = max(sum(row.tokens for row in share) for share in dealt)
    assert most <= 4 / 3 * max(sum(lengths) / hands, max(lengths))
