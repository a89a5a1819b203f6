"""Tiny runs, one whose evidence is known and one that was trained; the stand-in Hub; payloads no page may run."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load(name: str) -> ModuleType:
    file = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def hub_server() -> ModuleType:
    return load("hub_server")


@pytest.fixture
def hub(hub_server: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The stand-in, which this process takes for the Hub."""
    with hub_server.standing_in(monkeypatch) as server:
        monkeypatch.setenv("HF_TOKEN", "hf_" + "standin" * 4)
        yield server


def write_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def make_run(folder: Path, made_from: Path, **changes: Any) -> Path:
    """Write a finished run by hand: its evidence is what the tests below say it is."""
    import shutil

    shutil.copytree(made_from, folder / "model")
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    prompt = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    (folder / "model" / "chat_template.jinja").write_text(template + prompt, encoding="utf-8")
    write_json(folder / "model" / "generation_config.json", {"eos_token_id": 5})
    manifest: dict[str, Any] = {
        "verb": "dpo", "status": "done", "poise": "0.1.0", "command": "poise dpo recipe.yaml", "seconds": 61.0,
        "objective": {"beta": 0.1}, "optimizer_steps": 12, "tokens_seen": 3456, "processes": 1,
        "model": {"name": "nobody/base", "parameters": 1000, "trainable_parameters": 10, "tuning": "LoRA",
                  "dtype": "float32", "weights_sha256": "a" * 64},
        "data": {"rows": 40, "tokens": 4000, "trained_tokens": 1500, "sha256": "b" * 64,
                 "token_histogram": {"edges": [3, 77], "counts": [40]}, "sources": {"pairs.jsonl": 44}},
        "machine": {"device": "x86_64", "cores": 2, "memory_bytes": 2**34}, "versions": {"torch": "2.13.0"},
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest | changes)
    counts = {"in": 44, "used": 40, "dropped": {"too long": 3, "empty completion": 1}}
    write_json(folder / "ledger.json", counts | {"by_source": {"pairs.jsonl": counts}})
    write_json(
        folder / "evidence.json",
        {"labels": ["before", "after"], "sets": [{"name": "facts", "title": "Facts", "n": 4,
         "scores": {"before": 0.25, "after": 0.75}, "counts": {"before": 1, "after": 3}}]},
    )  # fmt: skip
    samples = [
        {"id": str(index), "set": "facts", "prompt": [{"role": "user", "content": f"question {index}"}],
         "expected": "right", "answers": {
             "before": {"text": f"was {index}", "stopped": True, "score": float(index == 0)},
             "after": {"text": f"is {index}", "stopped": True, "score": float(index != 1)}}}
        for index in range(4)
    ]  # fmt: skip
    (folder / "samples.jsonl").write_text("".join(json.dumps(each) + "\n" for each in samples), encoding="utf-8")
    (folder / "recipe.resolved.yaml").write_text("beta: 0.1  # a default\n", encoding="utf-8")
    return folder


@pytest.fixture
def run(small_model: Path, tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "dpo", small_model)


@pytest.fixture(scope="session")
def families() -> ModuleType:
    """Models and tokenizers of what a GGUF is written of."""
    return load("families")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The tiny model and its rows."""
    return load("../train/tiny")


@pytest.fixture(scope="session")
def taught(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
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
