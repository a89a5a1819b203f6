"""`--launch FILE` starts accelerate's launcher; what it cannot start from is told before any process begins."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny
from poise.errors import RecipeError
from poise.launch import launch, read_configuration
from poise.recipe import load_recipe
from poise.run import Run
from poise.train.layout import Layout, layout_here, layout_of, refuse_unsound

SHIPPED = sorted((Path(__file__).parents[1] / "recipes" / "accelerate").glob("*.yaml"))
GOOD_FSDP = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
FSDP, DDP = Layout("fsdp", GOOD_FSDP), Layout("ddp")
ZERO2, ZERO3 = Layout("deepspeed", {"zero_stage": 2}), Layout("deepspeed", {"zero_stage": 3})


def recipe(verb: str = "dpo", **values: Any) -> Any:
    chosen = {"model_name_or_path": "org/model", "dataset_name": "org/data", "output_dir": "out", **values}
    return load_recipe(verb, None, [f"{key}={json.dumps(value)}" for key, value in chosen.items()])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such file"),
        ("- a\n- b\n", "accelerate cannot start from it"),
        ("learning_rate: 1.0e-6\n", "A `distributed_type` must be specified"),
        ("distributed_type: MULTI_GPU\nbeta: 0.1\n", "unknown keys (['beta'])"),
        ("distributed_type: MULTI_CPU\nnum_processes: 2\n", "MULTI_GPU starts processes on CPUs too"),
        ("distributed_type: [\n", "accelerate cannot start from it"),
    ],
)
def test_a_file_that_is_no_accelerate_configuration_is_refused_with_the_remedy(
    text: str | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "launch.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        launch(file, recipe(), ["dpo"])
    assert said in str(caught.value)
    assert "to do:  " in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_configuration_is_accelerates_own_and_trains_a_plain_recipe(file: Path) -> None:
    refuse_unsound(recipe(), layout_of(read_configuration(file)))
    refuse_unsound(recipe(use_peft=True), layout_of(read_configuration(file)))


BEST = {"dataset_test_split": "test", "eval_strategy": "steps", "save_strategy": "steps"}
QUANTIZED = {"use_peft": True, "load_in_4bit": True}
UNSOUND: list[tuple[Layout, dict[str, Any], str | None]] = [
    (DDP, QUANTIZED, None),
    (ZERO2, {}, "DeepSpeed (ZeRO-2) is not trained with"),
    (ZERO3, {}, "DeepSpeed (ZeRO-3) is not trained with"),
    (FSDP, QUANTIZED, "quantized weights with FSDP2"),
    (FSDP, {"use_peft": True, "adapter_continuation": "stack"}, "adapter_continuation: stack with FSDP2"),
    (DDP, {"sync_ref_model": True}, None),
    (FSDP, {"sync_ref_model": True}, "a reference that moves (sync_ref_model) with FSDP2"),
    (FSDP, {"load_best_model_at_end": True, **BEST}, "load_best_model_at_end with FSDP2"),
    (Layout("fsdp", {**GOOD_FSDP, "version": 1}), {}, "fsdp_version: 1 is not trained with"),
    (Layout("fsdp", {"version": 2}), {}, "fsdp_auto_wrap_policy: NO_WRAP"),
    (Layout("fsdp", {**GOOD_FSDP, "cpu_ram_efficient_loading": True}), {}, "fsdp_cpu_ram_efficient_loading: true"),
    (Layout("fsdp", {**GOOD_FSDP, "activation_checkpointing": True}), {}, "belongs into the recipe"),
    (Layout("ddp", mixed_precision="bf16"), {"bf16": False}, "mixed_precision: bf16 in the accelerate configuration"),
    (Layout("ddp", mixed_precision="bf16"), {"bf16": True}, None),
    (Layout("ddp", parallelism={"cp_size": 2}), {}, "parallelism_config is not trained with"),
]


@pytest.mark.parametrize(("layout", "values", "said"), UNSOUND)
def test_what_would_train_wrong_is_refused_with_the_reason(
    layout: Layout, values: dict[str, Any], said: str | None
) -> None:
    if said is None:
        refuse_unsound(recipe(**values), layout)
        return
    with pytest.raises(RecipeError) as caught:
        refuse_unsound(recipe(**values), layout)
    assert said in str(caught.value)
    assert str(caught.value).count("to do:  ") == str(caught.value).count("why:    ") == 1


def test_a_process_reads_its_layout_from_what_accelerate_launch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert layout_here().kind == "one"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert layout_here().kind == "ddp"
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    assert (layout_here().name, layout_here().divides_weights) == ("ZeRO-3", True)
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert (layout_here().name, layout_here().divides_weights) == ("FSDP2", True)


def test_plan_and_check_say_what_a_configuration_cannot_train_and_how_many_steps_it_takes(
    small_model: Path, tmp_path: Path
) -> None:
    from poise.check import check
    from poise.plan import plan

    rows = [{"prompt": f"{n}?", "completion": "yes"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = [f"model_name_or_path={small_model}", f"dataset_name={tmp_path / 'rows.jsonl'}", "use_cpu=true",
                 f"output_dir={tmp_path / 'run'}", "chat_template=chatml", "per_device_train_batch_size=2"]  # fmt: skip
    file = tmp_path / "launch.yaml"
    file.write_text("distributed_type: MULTI_GPU\nnum_processes: 3\n")
    training = plan(None, overrides, verb="sft", with_data=True, configuration=file)["training"]
    assert (training["processes"], training["rows_per_step"], training["optimizer_steps"]) == (3, 6, 2)
    assert check(None, overrides, verb="sft", configuration=file)["ok"]
    file.write_text("distributed_type: FSDP\nnum_processes: 3\nfsdp_config: {fsdp_version: 1}\n")
    with pytest.raises(RecipeError, match="fsdp_version: 1 is not trained with here"):
        plan(None, overrides, verb="sft", with_data=False, configuration=file)
    found = check(None, overrides, verb="sft", configuration=file)
    assert not found["ok"]
    assert "fsdp_version: 1" in found["findings"][0]["what"]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Start a training by --launch in two processes on the CPU."""
    base = tiny.make_base(tmp_path / "base")
    rows = tiny.write_rows(tmp_path / "rows.jsonl", tiny.uneven_rows(16))
    file = tmp_path / "launch.yaml"
    file.write_text("distributed_type: MULTI_GPU\nnum_processes: 2\nmain_process_port: 0\nmixed_precision: 'no'\n")

    def begin(*flags: str, **values: Any) -> "subprocess.Popen[str]":
        settings = tiny.settings(model_name_or_path=base, dataset_name=rows, output_dir=tmp_path / "run", **values)
        return subprocess.Popen(
            [sys.executable, "-m", "poise", "sft", *settings, "--launch", str(file), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GLOO_SOCKET_IFNAME": "lo"},
        )

    return begin


@pytest.mark.slow
def test_launched_processes_stop_gently_and_resume_and_pass_their_exit_code_on(start: Any, tmp_path: Path) -> None:
    process, deadline = start(max_steps=2000), time.monotonic() + 240
    metrics = tmp_path / "run" / "metrics.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.is_file() and '"step": 5' in metrics.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 75, told
    assert told.count("SIGTERM: finishing this step") == 1, told
    run = Run(tmp_path / "run")
    assert run.manifest["status"] == "interrupted"
    (checkpoint,) = (run.path / "checkpoints").iterdir()
    step = int(checkpoint.name.rpartition("-")[2])
    process = start("--resume", "--json", max_steps=step + 1)
    out, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert json.loads(out.splitlines()[-1])["status"] == "done"
    assert run.manifest["processes"] == 2
    process = start(max_steps=2)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 2, told
    assert told.count("already holds a run") == 1
