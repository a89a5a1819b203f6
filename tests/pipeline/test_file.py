"""A pipeline's file: what it may say, and every mistake with its place before anything starts."""

from pathlib import Path

import pytest

from poise.errors import RecipeError
from poise.pipeline.file import read_pipeline
from poise.pipeline.run import run_pipeline


def write(text: str) -> Path:
    path = Path("mine.yaml")
    path.write_text(text)
    return path


def refused(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        run_pipeline(write(text), overrides)
    assert not Path("mine").exists()
    return str(error.value)


def test_a_stage_is_a_verb_alone_with_a_file_or_with_keys(fresh: Path) -> None:
    stages = "- curate: sft.yaml\n- sft: {recipe: sft.yaml, beta: 1}\n- evaluate: questions.jsonl\n- report\n"
    pipeline = read_pipeline(write(f"out: mine\nstages:\n{stages}"))
    assert not pipeline.faults
    assert [step.name for step in pipeline.steps] == ["01-curate", "02-sft", "03-evaluate", "04-report"]
    assert [step.recipe for step in pipeline.steps] == [Path("sft.yaml"), Path("sft.yaml"), None, None]
    assert [step.keys.values for step in pipeline.steps] == [{}, {"beta": 1}, {"questions": "questions.jsonl"}, {}]


def test_a_pipeline_ends_with_a_report_that_it_does_not_name(fresh: Path) -> None:
    assert read_pipeline(write("out: mine\nstages: [curate]\n")).steps[-1].name == "02-report"


def test_the_command_line_reaches_all_trainings_one_verb_or_one_stage(fresh: Path) -> None:
    overrides = ["out=other", "train.seed=1", "sft.max_steps=3", "02-sft.max_steps=4"]
    pipeline = read_pipeline(write("out: mine\nstages: [sft, sft]\n"), overrides)
    assert not pipeline.faults
    assert pipeline.train.values == {"seed": 1}
    assert [step.keys.values for step in pipeline.steps] == [{"max_steps": 3}, {"max_steps": 4}, {}]
    assert [step.folder for step in pipeline.steps][:2] == [Path("other/01-sft"), Path("other/02-sft")]


def test_every_mistake_of_every_stage_is_told_with_its_place_before_the_first_one_starts(fresh: Path) -> None:
    message = refused(
        "oot: mine\nmodel: base\nstages:\n"
        "- curate: {sources: [{path: chats.jsonl}], steps: [exac]}\n"
        "- sft: {learning_rat: 1e-3}\n"
        "- dpo: nowhere.yaml\n"
        "- evaluate: {question: x}\n"
        "- marge\n"
    )
    for told in (
        "mine.yaml:1:1",
        "unknown key 'oot'; did you mean 'out'?",
        "mine.yaml:4:52",
        "did you mean 'exact'?",
        "mine.yaml:5:9",
        "did you mean 'learning_rate'?",
        "mine.yaml:6:8",
        "there is no file nowhere.yaml",
        "mine.yaml:7:14",
        "unknown key 'question'; did you mean 'questions'?",
        "mine.yaml:8:3",
        "there is no stage 'marge'",
    ):
        assert told in message
    assert "no data is named" not in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("out: mine\n", "there are no stages"),
        ("out: mine\nstages: []\n", "there are no stages"),
        ("out: 7\nstages: [sft]\n", "expected text, got 7"),
        ("out: mine\nstages: [{sft: a, dpo: b}]\n", "a stage is a verb, or one verb with its recipe"),
        ("out: mine\nstages: [evaluate]\n", "01-evaluate: no stage before it trains a model"),
        ("out: mine\nmodel: base\nstages: [sft: {output_dir: x}]\n", "a stage has no 'output_dir'"),
        ("out: mine\nmodel: base\ntrain: {model_name_or_path: x}\nstages: [sft]\n", "cannot be the same for all"),
        ("out: mine\nmodel: base\nstages: [sft]\n", "no data is named"),
        ("out: mine\nmodel: base\ntrain: {lora_rr: 3}\nstages: [sft: {dataset_name: x}]\n", "mine.yaml:3:9"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(fresh: Path, text: str, told: str) -> None:
    assert told in refused(text)


def test_an_override_of_no_stage_is_refused(fresh: Path) -> None:
    text = "out: mine\nmodel: base\nstages: [sft: {dataset_name: chats.jsonl}]\n"
    assert "'dpo.beta' is no key of this pipeline" in refused(text, "dpo.beta=1")
