"""Fixtures of the preflight tests: models by shape, and a function that runs every check on a recipe and rows."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import helpers.preflight
from poise.preflight.finding import Finding
from poise.preflight.known import Known
from poise.preflight.preflight import preflight
from poise.recipe import load_recipe


@pytest.fixture(scope="session")
def made() -> Any:
    """The helpers that make rows, tokenizers and models."""
    return helpers.preflight


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model folders."""
    folder = tmp_path_factory.mktemp("models")
    corpus = [row["text"] for row in helpers.preflight.documents(50)]
    return helpers.preflight.make_models(folder, helpers.preflight.make_tokenizer(folder / "tokenizer", corpus, 600))


@pytest.fixture
def write_split(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as the splits of a folder."""

    def write(train: list[dict[str, Any]], test: list[dict[str, Any]] | None = None) -> Path:
        (tmp_path / "data").mkdir(exist_ok=True)
        for split, rows in (("train", train), ("test", test)):
            if rows is not None:
                (tmp_path / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / "data"

    return write


@pytest.fixture
def known_of(models: Path, write_split: Callable[..., Path], tmp_path: Path) -> Callable[..., Known]:
    """Return what is known of a recipe on rows; `values` are recipe keys, `base` a file they are added to."""

    def known(
        verb: str, train: list[dict[str, Any]], test: list[dict[str, Any]] | None = None, *,
        model: str = "smollm2-135m", base: Path | None = None, machine: Any = helpers.preflight.ROOMY,
        folder: Path | None = None, **values: Any,
    ) -> Known:  # fmt: skip
        from poise.train.preflight import known as gather
        from poise.train.prepare import prepare

        chosen = {
            "model_name_or_path": (folder or models) / model,
            "dataset_name": write_split(train, test),
            "dataset_train_split": "train",
            "use_cpu": True,
            "output_dir": tmp_path / "run",
            **({"dataset_test_split": "test"} if test is not None else {}),
            **values,
        }
        overrides = [f"{key}={value if isinstance(value, str | Path) else json.dumps(value)}"
                     for key, value in chosen.items()]  # fmt: skip
        recipe = load_recipe(verb, base, overrides)
        return replace(gather(recipe, prepare(recipe)), machine=machine)

    return known


@pytest.fixture
def look(known_of: Callable[..., Known]) -> Callable[..., list[Finding]]:
    """Run every check on what is known of a recipe on rows."""
    return lambda *arguments, **values: preflight(known_of(*arguments, **values))
