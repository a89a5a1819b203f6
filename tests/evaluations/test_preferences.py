"""`poise evaluate preferences`: every number by hand, whose reference it is, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny
from poise.errors import DataError, ModelError, PoiseError, RecipeError, RunError
from poise.evaluate import compare
from poise.evaluations import preferences
from poise.recipe import load_recipe
from poise.run import Run
from poise.train.train import train

TESTS = Path(__file__).parents[1]
PLAIN: dict[str, Any] = dict.fromkeys(str(parameter.name) for parameter in preferences.PARAMETERS)


Evaluate = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, its pairs, and three trainings on them: DPO with an adapter and with all weights, ORPO."""
    folder = tmp_path_factory.mktemp("world")
    rows = tiny.uneven_pairs(13)
    tiny.write_rows(folder / "pairs" / "train.jsonl", rows[:6])
    tiny.write_rows(folder / "pairs" / "test.jsonl", rows[6:])
    base = tiny.make_base(folder / "base")
    for verb, name, more in (("dpo", "lora", {"use_peft": True}), ("dpo", "full", {}), ("orpo", "orpo", {})):
        settings = tiny.settings(
            model_name_or_path=base, dataset_name=folder / "pairs", dataset_test_split="test", max_steps=2,
            output_dir=folder / name, reference_cache=folder / "cache", learning_rate=3e-3, beta=0.3, **more,
        )  # fmt: skip
        train(load_recipe(verb, None, settings), Run(folder / name))
    return folder


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Evaluate with the given options; returns the result and the lines of pairs.jsonl."""
    monkeypatch.setenv("POISE_CACHE", str(tmp_path / "cache"))

    def run(**options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        out = Path(options.pop("out", tmp_path / "result"))
        given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        result = preferences.run(**{**PLAIN, **given, "out": out})
        return result, [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]

    return run


def value(result: dict[str, Any], title: str, name: str) -> float:
    (table,) = (table for table in result["tables"] if table["title"] == title)
    (line,) = (line for line in table["lines"] if line["name"] == name)
    assert line["estimate"]["low"] <= line["estimate"]["value"] <= line["estimate"]["high"]
    return line["estimate"]["value"]


def spelled(question: str, answer: str) -> tuple[str, str]:
    """A pair's two parts as chatml writes them, up to the stop token."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", f"{answer}<|im_end|>"


@torch.no_grad()
def by_hand(model: Any, tokenizer: Any, prompt: str, answer: str) -> tuple[float, int]:
    """Sum the log-probabilities of an answer's tokens, in one plain forward pass; (nats, tokens)."""
    before, after = (tokenizer(text)["input_ids"] for text in (prompt, answer))
    logits = model(torch.tensor([before + after]), use_cache=False).logits[0].double()
    chances = logits.log_softmax(-1)[len(before) - 1 : -1]
    return chances.gather(1, torch.tensor(after)[:, None]).sum().item(), len(after)


def open_model(folder: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if (folder / "adapter_config.json").is_file():
        base = AutoModelForCausalLM.from_pretrained(json.loads((folder / "adapter_config.json").read_text())[
            "base_model_name_or_path"
        ])  # fmt: skip
        return PeftModel.from_pretrained(base, folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def hand(world: Path, name: str) -> list[dict[str, float]]:
    """Score the seven held-out pairs, of seven different lengths, one answer at a time."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world / "base")
    models = {"logp": open_model(world / name / "model"), "reference_logp": open_model(world / "base")}
    lines: list[dict[str, float]] = []
    for row in map(json.loads, (world / "pairs" / "test.jsonl").read_text().splitlines()):
        line: dict[str, float] = {}
        for side in ("chosen", "rejected"):
            for key, model in models.items():
                line[f"{key}_{side}"], line[f"tokens_{side}"] = by_hand(
                    model, tokenizer, *spelled(row["prompt"], row[side])
                )
        lines.append(line)
    return lines


def assert_by_hand(lines: list[dict[str, Any]], expected: list[dict[str, float]]) -> None:
    for line, one in zip(lines, expected, strict=True):
        assert {key: line[key] for key in one} == pytest.approx(one, rel=1e-6, abs=1e-6)


# Numbers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lora", "full"])
def test_dpo_over_ragged_pairs_is_what_a_hand_computes(name: str, world: Path, evaluate: Evaluate) -> None:
    """Means over pairs, not over batches; beta is the run's; what the training kept of its reference is found again."""
    result, lines = evaluate(model=world / name)
    expected = hand(world, name)
    assert_by_hand(lines, expected)
    margins: list[float] = []
    for line, one in zip(lines, expected, strict=True):
        chosen, rejected = (
            0.3 * (one[f"logp_{side}"] - one[f"reference_logp_{side}"]) for side in ("chosen", "rejected")
        )
        margins.append(chosen - rejected)
        assert (line["reward_chosen"], line["reward_rejected"]) == pytest.approx((chosen, rejected), abs=1e-6)
    n = len(expected)
    assert value(result, "Rewards", "margin") == pytest.approx(sum(margins) / n, abs=1e-6)
    first = "The chosen answer comes first"
    assert value(result, first, "reward accuracy") == pytest.approx(100 * sum(each > 0 for each in margins) / n)
    likelier = sum(one["logp_chosen"] > one["logp_rejected"] for one in expected)
    assert value(result, first, "likelihood accuracy") == pytest.approx(100 * likelier / n)
    per_token = sum(
        one["logp_chosen"] / one["tokens_chosen"] > one["logp_rejected"] / one["tokens_rejected"] for one in expected
    )
    assert value(result, first, "likelihood accuracy per token") == pytest.approx(100 * per_token / n)
    lengths = [one["tokens_chosen"] - one["tokens_rejected"] for one in expected]
    longer = sum(1.0 if more > 0 else 0.5 if more == 0 else 0.0 for more in lengths)
    assert value(result, first, "'longer is chosen'") == pytest.approx(100 * longer / n)
    fell = sum(one["logp_chosen"] < one["reference_logp_chosen"] for one in expected)
    found = value(result, "From the reference to the model", "chosen answers that fell")
    assert found == pytest.approx(100 * fell / n)


def test_orpo_is_rewarded_without_a_reference_and_still_says_what_fell(world: Path, evaluate: Evaluate) -> None:
    """beta times the mean log-probability; the reference is the model as training began."""
    result, lines = evaluate(model=world / "orpo")
    expected = hand(world, "orpo")
    assert_by_hand(lines, expected)
    for line, one in zip(lines, expected, strict=True):
        assert line["reward_chosen"] == pytest.approx(0.3 * one["logp_chosen"] / one["tokens_chosen"], rel=1e-6)
    fell = sum(one["logp_chosen"] < one["reference_logp_chosen"] for one in expected)
    found = value(result, "From the reference to the model", "chosen answers that fell")
    assert found == pytest.approx(100 * fell / len(expected))


def test_beta_and_method_can_be_said(world: Path, evaluate: Evaluate) -> None:
    _, usual = evaluate(model=world / "lora")
    _, twice = evaluate(model=world / "lora", beta=0.6)
    assert [line["margin"] for line in twice] == pytest.approx([2 * line["margin"] for line in usual])
    result, lines = evaluate(model=world / "base", data=world / "pairs", method="simpo", chat_template="chatml")
    assert lines[0]["reward_chosen"] == pytest.approx(2.0 * lines[0]["logp_chosen"] / lines[0]["tokens_chosen"])
    assert result["settings"]["reference"] == ""
    assert not any(table["title"].startswith("From the reference") for table in result["tables"])


def test_a_model_alone_is_told_by_its_likelihoods(world: Path, evaluate: Evaluate) -> None:
    result, lines = evaluate(model=world / "base", data=world / "pairs", chat_template="chatml")
    assert len(lines) == 7, "the test split, because there is one"
    assert {line["reward_chosen"] for line in lines} == {None}
    assert [table["title"] for table in result["tables"]] == [
        "The chosen answer comes first", "Log-probabilities", "Lengths",
    ]  # fmt: skip


def test_a_model_that_is_its_own_reference_is_told_so(world: Path, evaluate: Evaluate) -> None:
    result, _ = evaluate(model=world / "base", reference=world / "base", data=world / "pairs", chat_template="chatml")
    assert value(result, "The chosen answer comes first", "reward accuracy") == 0
    assert any("model and reference are the same" in note for note in result["notes"])


# The reference -------------------------------------------------------------------------------------------------------


def test_what_the_training_kept_is_not_computed_again(
    world: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(model=world / "full")
    assert "reference: all 7 rows reused" in capsys.readouterr().err


def test_an_adapter_is_switched_off_for_its_base(
    world: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself, and where the base is named: no second model is loaded, and the numbers are the run's."""
    _, of_run = evaluate(model=world / "lora")
    capsys.readouterr()
    shutil.copytree(world / "lora" / "model", world / "adapter", dirs_exist_ok=True)
    for more in ({}, {"reference": world / "base", "out": world / "named"}):
        result, lines = evaluate(model=world / "adapter", data=world / "pairs", beta=0.3, **more)
        assert result["settings"]["reference"] == "the base, the adapter switched off"
        assert result["settings"]["method"] == "dpo"
        for ours, theirs in zip(lines, of_run, strict=True):
            assert ours["margin"] == pytest.approx(theirs["margin"], abs=1e-6)


def test_a_base_that_has_changed_under_a_run_is_refused(world: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    base, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(world / "base", base)
    shutil.copytree(world / "full", run)
    resolved = run / "recipe.resolved.yaml"
    moved = resolved.read_text().replace(str(world / "base"), str(base)).replace(str(world / "cache"), str(tmp_path))
    resolved.write_text(moved)
    _, before = evaluate(model=run)
    assert_by_hand(before, hand(world, "full"))
    shutil.rmtree(tmp_path / "reference")
    tiny.make_base(base, seed=1)
    with pytest.raises(ModelError, match=r"is not what .* was measured from"):
        evaluate(model=run)
    _, lines = evaluate(model=run, reference=base)
    assert lines[0]["reference_logp_chosen"] != before[0]["reference_logp_chosen"], "it was asked for"


# Comparing -----------------------------------------------------------------------------------------------------------


def test_two_models_are_compared_pair_by_pair(world: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    """Rewards where reference, beta and method agree, likelihoods in any case."""
    evaluate(model=world / "lora", out=tmp_path / "a")
    evaluate(model=world / "full", out=tmp_path / "b")
    evaluate(model=world / "orpo", out=tmp_path / "c")
    alike = compare.compare(tmp_path / "a", tmp_path / "b")
    assert [task["task"] for task in alike["tasks"]] == [
        "likelihood accuracy", "likelihood accuracy per token", "reward accuracy (dpo)", "reward margin (dpo)",
    ]  # fmt: skip
    assert {task["n"] for task in alike["tasks"]} == {7}
    other = compare.compare(tmp_path / "a", tmp_path / "c")
    assert [task["task"] for task in other["tasks"]] == ["likelihood accuracy", "likelihood accuracy per token"]


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"model": "base"}, RecipeError, "is no run, so it has no held-out rows"),
        ({"model": "lora", "split": "test"}, RecipeError, "--split is one of --data's"),
        ({"model": "lora", "method": "kto"}, RecipeError, "kto's rewards on pairs are dpo's"),
        ({"model": "lora", "method": "dpoo"}, RecipeError, "did you mean 'dpo'"),
        ({"model": "base", "data": "pairs", "method": "dpo"}, RecipeError, "add --reference MODEL"),
        ({"model": "base", "data": "pairs", "beta": 0.2}, RecipeError, "--beta 0.2 scales rewards"),
        ({"model": "lora", "data": "nothing"}, DataError, "no such file or folder"),
        ({"model": "lora", "data": "chat.jsonl"}, DataError, "holds conversations, no pairs"),
        ({"model": "lora", "max_length": 8}, DataError, "no pair is left to score"),
        ({"model": "unfinished"}, RunError, "holds no model"),
    ],
)
def test_a_slip_is_told_with_what_to_do(
    options: dict[str, Any], error: type[PoiseError], told: str, world: Path, evaluate: Evaluate
) -> None:
    tiny.write_rows(world / "chat.jsonl", [tiny.conversation("Say", "apple")])
    for name in ("manifest.json", "recipe.resolved.yaml"):
        (world / "unfinished").mkdir(exist_ok=True)
        shutil.copy(world / "lora" / name, world / "unfinished" / name)
    placed = {key: world / text if key in ("model", "data") else text for key, text in options.items()}
    with pytest.raises(error, match="to do:") as raised:
        evaluate(**placed)
    assert told in str(raised.value)


def test_pairs_that_do_not_fit_are_counted(world: Path, evaluate: Evaluate) -> None:
    result, lines = evaluate(model=world / "lora", max_length=20)
    left = 7 - len(lines)
    assert 0 < left < 7
    assert f"{left} of 7 rows are left out: {left} too long" in result["notes"][0]
