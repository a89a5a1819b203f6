"""Tiny runs, one whose evidence is known and one that was trained; the stand-in Hub; payloads no page may run."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import helpers.families
from helpers import hub_server, tiny
from helpers.runs import make_run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The stand-in, which this process takes for the Hub."""
    with hub_server.standing_in(monkeypatch) as server:
        monkeypatch.setenv("HF_TOKEN", "hf_" + "standin" * 4)
        yield server


@pytest.fixture
def run(small_model: Path, tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "dpo", small_model)


@pytest.fixture(scope="session")
def families() -> ModuleType:
    """Models and tokenizers of what a GGUF is written of."""
    return helpers.families


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a tiny Llama, all weights trained, that has asked 20 questions."""
    from poise.recipe import load_recipe
    from poise.workflow import train_and_report

    place = tmp_path_factory.mktemp("taught")
    tiny.make_base(place / "base")
    tiny.write_rows(place / "chats.jsonl", tiny.copy_rows())
    keys = {"model_name_or_path": place / "base", "dataset_name": place / "chats.jsonl", "output_dir": place / "run"}
    short = {"max_steps": 80, "learning_rate": 1e-2, "question_count": 20, "max_new_tokens": 8}
    train_and_report(load_recipe("sft", None, tiny.settings(**keys, **short)))
    return place / "run"
