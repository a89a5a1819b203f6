"""poise check: exit codes, what it prints, ignored codes, samples; and a training command that stops or goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poise import check as checking
from poise.run import Run

Poise = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recipe(models: Path, write_split: Callable[..., Path], tmp_path: Path, made: Any) -> list[str]:
    """Settings of a sound DPO run on the CPU."""
    data = write_split(made.pairs(60))
    return [f"model_name_or_path={models / 'smollm2-135m'}", f"dataset_name={data}", "use_cpu=true",
            f"output_dir={tmp_path / 'run'}", "ignore=E508"]  # fmt: skip


def test_a_sound_recipe_exits_with_0(poise: Poise, recipe: list[str]) -> None:
    code, out, _ = poise("check", "--verb", "dpo", *recipe)
    assert code == 0
    assert "may run: 0 errors, 0 warnings" in out


def test_an_error_exits_with_2_and_says_all(poise: Poise, recipe: list[str]) -> None:
    code, out, _ = poise("check", "--verb", "dpo", *recipe, "learning_rate=1e-3", "max_length=51", "--json")
    result = json.loads(out)
    assert code == 2
    assert not result["ok"]
    errors = [each for each in result["findings"] if each["severity"] == "error"]
    assert [each["code"] for each in errors] == ["E101", "E201"]
    assert errors[1]["row_count"] == len(errors[1]["rows"]) >= 30
    lost = {each["max_length"]: each["rows_lost"] for each in result["lengths"]}
    assert lost[51] == errors[1]["row_count"] / 60


def test_an_ignored_error_does_not_stop(poise: Poise, recipe: list[str]) -> None:
    code, out, _ = poise("check", "--verb", "dpo", *recipe[:-1], "learning_rate=1e-3", "--ignore=E101,E508")
    assert code == 0
    assert "1 ignored" in out
    assert "E101" not in out


def test_what_cannot_be_ignored_is_refused_in_the_recipe(poise: Poise, recipe: list[str]) -> None:
    code, out, _ = poise("check", "--verb", "dpo", *recipe[:-1], "ignore=E307")
    assert code == 2
    assert "error E001" in out
    assert "cannot be ignored" in out


def test_a_missing_file_is_a_finding_beside_those_that_need_no_rows(poise: Poise, recipe: list[str]) -> None:
    code, out, _ = poise("check", "--verb", "dpo", *recipe, "dataset_name=nowhere.jsonl", "learning_rate=1e-3")
    assert code == 2
    assert "\nerror E101" in out
    assert out.startswith("error E002: nowhere.jsonl: no such file")
    assert out.partition("error E101")[0].count("why:") == 1


def test_a_sample_stands_for_all(
    recipe: list[str], write_split: Callable[..., Path], made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    equal = [{**row, "rejected": row["chosen"]} for row in made.pairs(300)[150:]]
    write_split([*made.pairs(150), *equal, *({**row, "chosen": f"long {made.text(1, 90)}"} for row in made.pairs(60))])
    monkeypatch.setattr(checking, "ROWS", 70)
    sampled = checking.check(None, [*recipe, "max_length=64"], verb="dpo")
    whole = checking.check(None, [*recipe, "max_length=64"], verb="dpo", all_rows=True)
    assert sampled["rows_rendered"] < whole["rows_rendered"]
    assert {each["code"] for each in sampled["findings"] if each["severity"] != "note"} == {
        each["code"] for each in whole["findings"] if each["severity"] != "note"
    }


def test_a_training_command_stops_before_it_loads_the_model(poise: Poise, recipe: list[str], tmp_path: Path) -> None:
    """The folder holds no weights: what is told is the finding, not their absence."""
    code, _, err = poise("dpo", *recipe, "learning_rate=1e-3")
    assert code == 2
    assert "error: E101: learning_rate 0.001 is 2e+02 times" in err
    assert "--ignore E101" in err
    manifest = Run(tmp_path / "run").manifest
    assert manifest["status"] == "failed"
    assert [each["code"] for each in manifest["preflight"] if each["severity"] == "error"] == ["E101"]


def test_warnings_reach_manifest_and_report(poise: Poise, recipe: list[str], tmp_path: Path, made: Any) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    source = Path(recipe[0].split("=")[1]).with_name("tiny")
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    short = ["max_steps=1", "question_count=0", "save_strategy=no", "reference_cache=false", "warmup_steps=50"]
    code, _, err = poise("dpo", *recipe[1:], f"model_name_or_path={folder}", *short, "beta=6", "ignore=W109")
    assert code == 0
    assert err.count("warning W103: 50 steps of warmup, and the run makes 1 updates") == 1
    manifest = Run(tmp_path / "run").manifest
    assert [each.split(":")[0] for each in manifest["warnings"]] == ["W103"]
    assert {each["code"]: each["ignored"] for each in manifest["preflight"]}["W109"]
    assert "W103: 50 steps of warmup" in (tmp_path / "run" / "report.html").read_text()
