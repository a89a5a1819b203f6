"""Running a pipeline: each stage from the one before it, made once, made again only where something has changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from poise.errors import InterruptedRun, RecipeError
from poise.pipeline.run import run_pipeline
from poise.run import Run

FILE = Path("pipeline.yaml")


def done(told: dict[str, Any]) -> dict[str, str]:
    return {line["stage"].partition("-")[2]: line["does"] for line in told["stages"]}


def append(file: str) -> None:
    Path(file).write_text(Path(file).read_text() + "\n")


def test_each_training_starts_from_the_model_and_the_rows_of_the_stages_before(here: Path) -> None:
    sft, dpo = ((here / "mine" / name / "recipe.resolved.yaml").read_text() for name in ("02-sft", "03-dpo"))
    assert "model_name_or_path: base  # pipeline.yaml" in sft
    assert "dataset_name: mine/01-curate  # 01-curate" in sft
    assert "learning_rate: 0.001  # pipeline.yaml:8" in sft
    assert "per_device_train_batch_size: 4  # sft.yaml:5" in sft
    assert "model_name_or_path: mine/02-sft/model  # 02-sft" in dpo
    rows = [Run(here / "mine" / name).manifest["data"] for name in ("02-sft", "03-dpo")]
    written = json.loads((here / "mine" / "01-curate" / "curation.json").read_text())["stages"][-1]["written"]
    assert [each["rows"] for each in rows] == [written[kind]["train"] for kind in ("conversation", "preference_pair")]
    assert [each["held_out_rows"] for each in rows] == [
        written[kind].get("test", 0) for kind in ("conversation", "preference_pair")
    ]


def test_every_model_answers_the_questions_and_one_page_tells_of_all_stages(here: Path) -> None:
    evidence = Run(here / "mine" / "04-evaluate").evidence()
    assert evidence["labels"] == ["before", "sft", "dpo"]
    kept = json.loads((here / "mine" / "03-dpo" / "answers" / "after.json").read_text())
    samples = Run(here / "mine" / "04-evaluate").samples()
    assert [sample["answers"]["dpo"]["text"] for sample in samples] == [answer["text"] for answer in kept]
    page = (here / "mine" / "report.html").read_text()
    assert "curate → sft → dpo" in page
    assert "curate: 96 in" in page


def test_a_second_run_does_nothing_and_imports_no_torch(here: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    code = (
        "import sys; from pathlib import Path; from poise.pipeline.run import run_pipeline\n"
        "told = run_pipeline(Path('pipeline.yaml'))\n"
        "assert {line['does'] for line in told['stages']} == {'skip'}\n"
        "assert not {'torch', 'transformers', 'pyarrow', 'altair'} & sys.modules.keys()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not ran.returncode, ran.stderr
    assert "all 5 stages are done and nothing has changed" in ran.stderr
    assert before == {path: path.stat().st_mtime_ns for path in here.rglob("*")}


def test_what_changed_is_made_again_and_what_follows_from_it(here: Path) -> None:
    told = run_pipeline(FILE, ["dpo.beta=0.3"], dry_run=True)
    assert done(told) == {"curate": "skip", "sft": "skip", "dpo": "run", "evaluate": "run", "report": "run"}
    assert told["stages"][2]["why"] == "its keys have changed"
    assert done(run_pipeline(FILE, ["dpo.beta=0.3"])) == done(told)
    assert done(run_pipeline(FILE, ["dpo.beta=0.3"])) == dict.fromkeys(done(told), "skip")


def test_a_comment_changes_nothing(here: Path) -> None:
    FILE.write_text("# mine\n" + FILE.read_text())
    Path("sft.yaml").write_text(Path("sft.yaml").read_text() + "# a thought\n")
    assert set(done(run_pipeline(FILE)).values()) == {"skip"}


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda: append("chats.jsonl"), ("01-curate", "chats.jsonl has changed")),
        (lambda: append("base/config.json"), ("02-sft", "base has changed")),
        (lambda: append("questions.jsonl"), ("02-sft", "questions.jsonl has changed")),
        (lambda: shutil.rmtree("mine/03-dpo/model"), ("03-dpo", "mine/03-dpo/model is not what it made")),
        (lambda: Path("mine/report.html").unlink(), ("05-report", "mine/report.html is not what it made")),
    ],
)
def test_changed_content_is_noticed(here: Path, damage: Any, why: tuple[str, str]) -> None:
    damage()
    told = run_pipeline(FILE, dry_run=True)["stages"]
    first = next(line for line in told if line["does"] == "run")
    assert (first["stage"], first["why"]) == why


def test_from_makes_a_stage_again_with_all_after_it(here: Path) -> None:
    told = {"curate": "skip", "sft": "skip", "dpo": "run", "evaluate": "run", "report": "run"}
    for name in ("dpo", "03-dpo", "3"):
        assert done(run_pipeline(FILE, start=name, dry_run=True)) == told
    with pytest.raises(RecipeError, match="no such stage; did you mean 'sft'"):
        run_pipeline(FILE, start="sftt")


def test_a_dry_run_writes_nothing(fresh: Path) -> None:
    assert set(done(run_pipeline(FILE, dry_run=True)).values()) == {"run"}
    assert not Path("mine").exists()


def test_a_stopped_pipeline_goes_on_from_the_checkpoint(here: Path) -> None:
    overrides = ["sft.max_steps=30"]

    def stop() -> None:
        started = time.monotonic()
        while len(Run(here / "mine" / "02-sft").metrics()) < 3 and time.monotonic() - started < 60:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    shutil.rmtree(here / "mine" / "02-sft")
    thread.start()
    with pytest.raises(InterruptedRun, match=r"in stage 02-sft: .*\n.*poise run pipeline.yaml goes on there"):
        run_pipeline(FILE, overrides)
    thread.join()
    stopped_at = len(Run(here / "mine" / "02-sft").metrics())
    assert 3 <= stopped_at < 30
    told = run_pipeline(FILE, overrides)
    assert told["stages"][1]["why"] == "it was not finished"
    assert [line["step"] for line in Run(here / "mine" / "02-sft").metrics()] == list(range(1, 31))
    lines = (here / "mine" / "02-sft" / "metrics.jsonl").read_text().splitlines()
    assert sum('"step": 1,' in line for line in lines) == 1


def test_models_are_asked_anew_where_their_answers_were_kept_at_another_length(here: Path) -> None:
    told = run_pipeline(FILE, ["evaluate.max_new_tokens=2"])
    assert done(told) == {"curate": "skip", "sft": "skip", "dpo": "skip", "evaluate": "run", "report": "run"}
    (first, *_) = Run(here / "mine" / "04-evaluate").samples()
    assert list(first["answers"]) == ["before", "sft", "dpo"]
    assert all(answer["tokens"] <= 2 for answer in first["answers"].values())


def test_a_merge_is_checked_and_told_on_the_page(here: Path) -> None:
    FILE.write_text(FILE.read_text() + "- merge: float32\n")
    told = run_pipeline(FILE)
    assert done(told) == dict.fromkeys(("curate", "sft", "dpo", "evaluate"), "skip") | {"merge": "run", "report": "run"}
    made = json.loads((here / "mine" / "05-merge" / "merge.json").read_text())
    assert made["largest_logit_difference"] <= 1e-5
    assert "Read back from disk, the model gave 4 of 4 greedy answers" in (here / "mine" / "report.html").read_text()


def test_a_merge_of_what_has_no_adapter_is_refused_before_anything_starts(fresh: Path) -> None:
    FILE.write_text(FILE.read_text() + "- merge\n")
    with pytest.raises(RecipeError, match="05-merge: 03-dpo trains all weights, so there is nothing to merge"):
        run_pipeline(FILE, ["train.use_peft=false"])


@pytest.mark.slow
def test_a_killed_pipeline_ends_with_the_weights_of_one_that_was_not(fresh: Path) -> None:
    command = [sys.executable, "-m", "poise", "run", "pipeline.yaml", "sft.max_steps=40"]
    ran = subprocess.Popen([*command, "out=killed"], stderr=subprocess.DEVNULL)
    while len(Run(fresh / "killed" / "02-sft").metrics()) < 5 and ran.poll() is None:
        time.sleep(0.02)
    ran.kill()
    assert ran.wait() == -signal.SIGKILL
    for out in ("killed", "whole"):
        assert not subprocess.run([*command, f"out={out}"], check=False).returncode
    weights = [(fresh / out / "03-dpo/model/adapter_model.safetensors").read_bytes() for out in ("killed", "whole")]
    assert weights[0] == weights[1]


def test_a_launcher_of_several_processes_is_refused(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="poise run is one process"):
        run_pipeline(FILE)


def test_evaluate_measures_every_model_and_the_page_tells_what_differs(here: Path) -> None:
    pipeline = FILE.read_text().replace(
        "- evaluate\n", "- evaluate: {preferences: {data: pairs.jsonl, split: train}}\n"
    )
    FILE.write_text(pipeline)
    assert done(run_pipeline(FILE)) == {
        "curate": "skip", "sft": "skip", "dpo": "skip", "evaluate": "run", "report": "run"
    }  # fmt: skip
    folder = here / "mine" / "04-evaluate" / "preferences"
    assert sorted(path.name for path in folder.iterdir()) == ["before", "dpo", "sft"]
    page = (here / "mine" / "report.html").read_text()
    assert "preferences · base → " in page and "The same items under both models" in page
    assert done(run_pipeline(FILE))["evaluate"] == "skip"
    (folder / "sft" / "evaluation.json").unlink()
    assert done(run_pipeline(FILE))["evaluate"] == "run"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("{bench: {tasks: piqa, limits: 3}}", "bench has no key 'limits'; did you mean 'limit'?"),
        ("{bench: {limit: many}}", "Invalid value for '--limit'"),
        ("{mtbench: {data: mt}}", "Missing option '--judge'"),
        ("{preferences: {out: there}}", "preferences.out is what the pipeline decides"),
        ("{benches: {}}", "did you mean 'bench'?"),
    ],
)
def test_a_wrong_key_of_an_evaluation_is_told_before_anything_starts(keys: str, told: str, fresh: Path) -> None:
    FILE.write_text(FILE.read_text().replace("- evaluate\n", f"- evaluate: {keys}\n"))
    with pytest.raises(RecipeError) as error:
        run_pipeline(FILE)
    assert told in str(error.value)
    assert not Path("mine").exists()
