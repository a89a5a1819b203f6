"""The command line as a user meets it: messages, exit codes, one JSON object, and nothing heavy before it is needed."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import malformed, tiny

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its tokenizer."""
    return tiny.make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def weightless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer without a model: whoever loads weights from here fails with a ModelError."""
    return tiny.make_tokenizer(tmp_path_factory.mktemp("weightless"), eos="<|endoftext|>", pad="<|pad|>")


@pytest.fixture
def words(base: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the overrides of a short run on four conversations."""

    def make(**values: Any) -> list[str]:
        data = tiny.write_rows(tmp_path / "rows.jsonl", tiny.uneven_rows(4))
        short = {"model_name_or_path": base, "dataset_name": data, "output_dir": tmp_path / "run", "max_steps": 1}
        return tiny.settings(**short | values)

    return make


def fresh(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a process of its own."""
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)


# What a user does wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(malformed.FILES))
def test_malformed_data_is_told_before_any_weights_are_loaded(
    name: str, poise: Any, weightless: Path, tmp_path: Path
) -> None:
    case = malformed.write_case(tmp_path, name)
    overrides = tiny.settings(
        model_name_or_path=weightless, dataset_name=case.path, output_dir=tmp_path / "run", text_column="text"
    )
    outcome = poise("sft", *overrides)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert "defect" not in outcome.err
    for fragment in case.fragments:
        assert fragment in outcome.err
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_missing_weights_are_told_in_one_message(poise: Any, words: Any, weightless: Path) -> None:
    outcome = poise("sft", *words(model_name_or_path=weightless))
    assert outcome.code == 2
    assert f"cannot load '{weightless}' (this folder)" in outcome.err
    assert "Traceback" not in outcome.err


def test_no_error_crash_report_or_manifest_holds_a_secret(
    poise: Any, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, token = "0123456789abcdef", "hf_" + "A1b2C3d4" * 4
    monkeypatch.setenv("MY_API_KEY", known)
    outcome = poise("sft", *words(dataset_name=f"https://me:{known}@host/{token}"), "--debug")
    assert outcome.code == 2
    assert "Traceback" in outcome.err
    assert not any(secret in outcome.out + outcome.err for secret in (known, token))
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret.encode() in content for secret in (known, token) for content in written)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["stf"], "no verb 'stf'; did you mean 'sft'?"),
        (["sft", "--resum"], "unknown option --resum; did you mean '--resume'?"),
        (["sft", "--learning_rat", "1e-6"], "on the command line: --learning_rat=1e-6"),
        (["sft", "-r", "8"], "recipe keys are written --key=VALUE"),
        (["sft", "learning_rat=1e-6", "dataset_name=x", "model_name_or_path=y"], "learning_rate"),
        (["sft", "a.yaml", "b.yaml"], "one recipe at a time, got a.yaml, b.yaml"),
        (["sft", "nowhere.yaml"], "nowhere.yaml"),
        (["sft"], "model_name_or_path"),
        (["plan", "model_name_or_path=x"], "which objective?"),
        (["plan", "--verb", "stf"], "--verb stf: the objectives are"),
        (["mask", "--row", "x", "--verb", "sft"], "'x' is not a valid integer"),
        (["report", "nowhere"], "nowhere is not a run"),
        (["report"], "Missing argument"),
        (["--nonsense"], "--nonsense"),
        (["curate", "recipe.yaml", "--public"], "add --push OWNER/NAME"),
        (["curate", "recipe.yaml", "--diff", "a", "b"], "leave recipe and --push out"),
    ],
)
def test_a_slip_on_the_command_line_is_told_with_what_was_meant(command: list[str], told: str, poise: Any) -> None:
    outcome = poise(*command)
    assert outcome.code == 2
    assert told in outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def test_an_output_folder_that_cannot_be_written_is_refused(poise: Any, words: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = poise("sft", *words(output_dir=tmp_path / "file" / "run"))
    assert outcome.code == 2
    assert "cannot write to" in outcome.err
    assert "choose another output_dir" in outcome.err


def test_resuming_nothing_is_refused(poise: Any, words: Any) -> None:
    outcome = poise("sft", "--resume", *words())
    assert outcome.code == 2
    assert "holds no complete checkpoint; start without --resume" in outcome.err


def test_a_broken_question_file_is_told_before_any_weights_are_loaded(
    poise: Any, words: Any, weightless: Path, tmp_path: Path
) -> None:
    (tmp_path / "questions.jsonl").write_text('{"prompt": "ok?"}\n{"prompt": 3}\n')
    outcome = poise("sft", *words(model_name_or_path=weightless, questions=tmp_path / "questions.jsonl"))
    assert outcome.code == 2
    assert "questions.jsonl:2: not a question" in outcome.err


def test_interrupting_while_rows_are_rendered_leaves_a_folder_that_can_be_used_again(
    base: Path, tmp_path: Path, poise: Any, words: Any
) -> None:
    data = tiny.write_rows(tmp_path / "many.jsonl", tiny.uneven_rows(200) * 100)
    command = [sys.executable, "-m", "poise", "sft", *words(dataset_name=data)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "stage=render" in line)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert process.returncode == 75
    assert "Traceback" not in told
    assert told.strip().startswith("stopped by SIGINT outside the training loop")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "interrupted"
    assert poise("sft", *words()).code == 0


# One JSON object -----------------------------------------------------------------------------------------------------


def test_a_trained_run_is_one_json_object(poise: Any, words: Any, tmp_path: Path) -> None:
    outcome = poise("sft", "--json", *words(question_count=2, max_new_tokens=4))
    assert outcome.code == 0
    told = outcome.json
    assert told["status"] == "done"
    assert told["steps"] == 1
    assert told["rows"] == {"in": 4, "used": 4, "dropped": {}}
    assert Path(told["model"], "model.safetensors").is_file()
    assert "loss" in told["last"]
    report = poise("report", "--json", tmp_path / "run")
    assert Path(report.json["report"]).is_file()
    assert report.json["verdict"]


def test_a_plan_is_one_json_object_and_trains_nothing(poise: Any, words: Any, weightless: Path, tmp_path: Path) -> None:
    told = poise("plan", "--verb", "sft", "--json", *words(model_name_or_path=weightless)).json
    assert told["data"]["rows"] == 4
    assert told["training"]["optimizer_steps"] == 1
    assert told["training"]["stop_tokens"] == ["<|im_end|>", "<|endoftext|>"]
    assert {entry["key"]: entry["origin"] for entry in told["recipe"]}["max_steps"] == "command line"
    assert not (tmp_path / "run").exists()


def test_a_mask_is_one_json_object(poise: Any, words: Any) -> None:
    outcome = poise("mask", "--verb", "sft", "--json", *words())
    assert outcome.code == 0
    assert outcome.out.count("\n") == 1
    assert outcome.json


@pytest.mark.parametrize(
    "command", [["sft"], ["plan"], ["mask", "--verb", "sft"], ["report", "nowhere"], ["stf"], ["report", "--nonsense"]]
)
def test_an_error_is_one_json_object_too(command: list[str], poise: Any) -> None:
    outcome = poise(*command, "--json")
    assert outcome.code == 2
    assert outcome.json["exit_code"] == 2
    assert outcome.json["error"]
    assert outcome.json["error"].splitlines()[0] in outcome.err


# Looking before training ---------------------------------------------------------------------------------------------


def test_a_plan_without_data_touches_neither_model_nor_data(poise: Any) -> None:
    outcome = poise("plan", "--no-data", "--verb", "dpo", "model_name_or_path=/no/model", "dataset_name=/no/data.jsonl")
    assert outcome.code == 0
    assert "/no/model" in outcome.out
    assert "command line" in outcome.out


def test_a_mask_shows_the_row_and_refuses_one_that_is_not_there(poise: Any, words: Any) -> None:
    outcome = poise("mask", "--verb", "sft", "--row", 2, *words())
    assert outcome.code == 0
    assert "assistant" in outcome.out
    outside = poise("mask", "--verb", "sft", "--row", 4, *words())
    assert outside.code == 2
    assert "this recipe has rows 0 to 3" in outside.err


# Help ----------------------------------------------------------------------------------------------------------------


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from poise.cli import main\n"
        "sys.argv = ['poise', '--help']\n"
        "try: main()\n"
        "finally: print('HEAVY', {'torch', 'transformers', 'datasets', 'peft', 'numpy'} & set(sys.modules))"
    )
    assert "HEAVY set()" in fresh("-c", program).stdout
    used: list[float] = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert fresh("-m", "poise", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(used) < 0.3


def test_help_lists_every_verb() -> None:
    told = fresh("-m", "poise", "--help").stdout
    for verb in ("cpt", "sft", "dpo", "orpo", "plan", "mask", "report", "demo"):
        assert f"\n  {verb} " in told


@pytest.mark.parametrize("verb", ["cpt", "sft", "dpo", "orpo", "plan", "mask", "report", "demo"])
def test_every_verb_has_help(verb: str, poise: Any) -> None:
    outcome = poise(verb, "--help")
    assert outcome.code == 0
    assert "Usage: poise" in outcome.out


def test_poise_alone_shows_its_help(poise: Any) -> None:
    outcome = poise()
    assert outcome.code == 0
    assert "Usage: poise" in outcome.out
    assert outcome.err == ""
