"""`poise evaluate bench` on the harness's own tasks with local data: tables, items, resuming, refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rows as the Hub has them, of arc_challenge, gsm8k and one subject of mmlu."""
    folder = tmp_path / "data"
    choices = ["yes", "no", "yes yes", "no no"]
    arc = [{"id": f"q{n}", "question": f"Is it {n}?", "choices": {"text": choices, "label": list("ABCD")},
            "answerKey": "ABCD"[n % 4]} for n in range(6)]  # fmt: skip
    mmlu = [{"question": f"Is it {n}?", "choices": choices, "answer": n % 4, "subject": "anatomy"} for n in range(6)]
    gsm = [{"question": f"{n} and 1?", "answer": f"It is.\n#### {n + 1}"} for n in range(4)]
    splits = {
        "arc_challenge": ("train", "validation", "test"),
        "mmlu/anatomy": ("dev", "test"),
        "gsm8k": ("train", "test"),
    }
    for (task, names), rows in zip(splits.items(), (arc, mmlu, gsm), strict=True):
        (folder / task).mkdir(parents=True)
        for split in names:
            (folder / task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_stock_tasks_are_asked_on_local_data_and_compared_item_by_item(
    poise: Callable[..., Any], small_model: Path, data: Path, tmp_path: Path
) -> None:
    words = ("evaluate", "bench", "--model", small_model, "--data", data, "--tasks", "arc_challenge,mmlu,gsm8k",
             "--shots", "mmlu=2", "--shots", "gsm8k=1", "--limit", 4, "--max-length", 600, "--out")  # fmt: skip
    code, out, err = poise(*words, tmp_path / "one")
    assert code == 0, err
    assert "arc_challenge (acc_norm, 0 shots)" in out
    assert "mmlu (acc, 2 shots)" in out
    assert "gsm8k (exact_match, strict-match, 1 shots)" in out
    assert "exact_match, flexible-extract" in out
    assert "mmlu is 1 of its 57 subjects" in out
    told = json.loads((tmp_path / "one" / "evaluation.json").read_text())
    assert told["settings"]["tasks"]["mmlu_anatomy"]["shots"] == 2
    assert told["figures"]["tokens_computed"] < told["figures"]["tokens_asked"]
    harness = told["figures"]["harness"]
    lines = {line["name"].partition(" ")[0]: line["estimate"] for line in told["tables"][0]["lines"]}
    assert lines["arc_challenge"]["value"] == pytest.approx(100 * harness["arc_challenge"]["acc_norm,none"])
    assert lines["mmlu"]["value"] == pytest.approx(100 * harness["mmlu_anatomy"]["acc,none"])
    items = [json.loads(line) for line in (tmp_path / "one" / "items.jsonl").read_text().splitlines()]
    assert [item["task"] for item in items] == ["arc_challenge"] * 4 + ["mmlu"] * 4 + ["gsm8k"] * 4

    kept = (tmp_path / "one" / "answers.jsonl").read_bytes()
    code, _, _ = poise(*words, tmp_path / "one")
    again = json.loads((tmp_path / "one" / "evaluation.json").read_text())
    assert code == 0
    assert (tmp_path / "one" / "answers.jsonl").read_bytes() == kept
    assert again["figures"]["tokens_computed"] == 0
    assert again["tables"] == told["tables"]

    code, out, _ = poise("compare", tmp_path / "one", tmp_path / "one")
    assert code == 0
    assert "mmlu" in out


def test_a_chat_template_is_recorded_and_not_compared_with_none(
    poise: Callable[..., Any], small_model: Path, data: Path, tmp_path: Path
) -> None:
    words = ("evaluate", "bench", "--model", small_model, "--data", data, "--tasks", "arc_challenge", "--out")
    assert poise(*words, tmp_path / "plain")[0] == 0
    code, out, err = poise(*words, tmp_path / "chat", "--chat-template", "chatml")
    assert code == 0, err
    assert "within the model's chat template" in out
    assert json.loads((tmp_path / "chat" / "evaluation.json").read_text())["settings"]["chat_template"] == "chatml"
    code, _, err = poise("compare", tmp_path / "plain", tmp_path / "chat")
    assert code == 2
    assert "asked or judged differently" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "arc_challenge", "--shots", "many"], "is no number"),
        (["--tasks", "arc_challenge", "--shots", "mmlu=3"], "names mmlu"),
        (["--tasks", "piqa"], "is no folder with data"),
        (["--tasks", "arc_challenge", "--include", "."], "--run-code"),
        (["--model", "http://127.0.0.1:1/v1#m"], "is served"),
    ],
)
def test_what_cannot_be_asked_is_told_before_the_model_loads(
    words: list[str], said: str, poise: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    code, _, err = poise("evaluate", "bench", "--model", "absent", "--data", data, "--out", tmp_path / "out", *words)
    assert code == 2
    assert said in err


def test_a_task_that_runs_code_needs_leave(poise: Callable[..., Any], tmp_path: Path) -> None:
    """The task stands in a folder of one's own, which needs leave too; given it, the task is loaded, all but data."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    files = {"test": str(tmp_path / "absent")}
    told = {"task": "mine", "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test",
            "output_type": "generate_until", "doc_to_text": "q", "doc_to_target": "a",
            "unsafe_code": True}  # fmt: skip
    (tasks / "mine.yaml").write_text(json.dumps(told))
    words = ("evaluate", "bench", "--model", "absent", "--tasks", "mine", "--include", tasks, "--out", tmp_path / "out")
    code, _, err = poise(*words)
    assert (code, "--run-code" in err) == (2, True)
    code, _, err = poise(*words, "--run-code")
    assert (code, "mine cannot be loaded" in err) == (2, True)
