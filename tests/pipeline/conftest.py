"""A finished pipeline over a tiny model, copied for every test that changes something."""

import json
import shutil
from pathlib import Path

import pytest

from helpers import tiny
from poise.pipeline.run import run_pipeline

LINES = """\
out: mine
model: base
questions: questions.jsonl
train: {chat_template: chatml, use_cpu: true, max_length: 128, logging_steps: 1, max_steps: 2, max_new_tokens: 4,
        reference_cache: false, save_steps: 1, use_peft: true, lora_r: 4}
stages:
- curate: {sources: [{path: chats.jsonl}, {path: pairs.jsonl}], split: {test: 0.1}}
- sft: {recipe: sft.yaml, learning_rate: 1e-3}
- dpo: {beta: 0.2}
- evaluate
"""


@pytest.fixture(scope="session")
def supplies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model, rows, questions, a recipe and a pipeline."""
    folder = tmp_path_factory.mktemp("supplies")
    tiny.make_base(folder / "base")
    tiny.write_rows(folder / "chats.jsonl", tiny.copy_rows())
    tiny.write_rows(folder / "pairs.jsonl", tiny.uneven_pairs())
    questions = [{"id": word, "set": "copy", "prompt": f"Say {word}", "expected": word} for word in tiny.WORDS[:4]]
    (folder / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in questions))
    (folder / "sft.yaml").write_text(
        "model_name_or_path: another-model\ndataset_mixer: {another-dataset: 1.0}\noutput_dir: elsewhere\n"
        "learning_rate: 5e-5\nper_device_train_batch_size: 4\n"
    )
    (folder / "pipeline.yaml").write_text(LINES)
    return folder


@pytest.fixture(scope="session")
def finished(supplies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the pipeline once."""
    folder = tmp_path_factory.mktemp("finished") / "here"
    shutil.copytree(supplies, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        told = run_pipeline(Path("pipeline.yaml"))
    assert [line["does"] for line in told["stages"]] == ["run"] * 5
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a copy of the finished pipeline."""
    shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def fresh(supplies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand where nothing has been run."""
    shutil.copytree(supplies, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"
