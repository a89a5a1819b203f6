"""Fixtures of the training tests: one tiny model on disk, and a function that trains it as a command would."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import helpers.forked
import helpers.tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model with its tokenizer."""
    return helpers.tiny.make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def forks(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that starts training processes in no time, and can make their disk fail."""
    server = helpers.forked.Forks(tmp_path_factory.mktemp("forks"), base)
    yield server
    server.close()


@pytest.fixture
def train_run(base: Path, tmp_path: Path) -> Callable[..., Any]:
    """Train on rows, ask the questions and return the Run.

    Keywords are recipe keys, `resume` and `overwrite` the command's flags. The report, which takes longer than training
    does, is written where a test looks at it.
    """

    def run(
        verb: str, rows: list[dict[str, Any]] | Path, folder: str = "run", *, resume: bool = False,
        overwrite: bool = False, report: bool = False, **values: Any,
    ) -> Any:  # fmt: skip
        from poise.recipe import load_recipe
        from poise.run import Run
        from poise.train.train import train
        from poise.workflow import Evidence, train_and_report

        data = rows if isinstance(rows, Path) else helpers.tiny.write_rows(tmp_path / f"{folder}.jsonl", rows)
        chosen = {"model_name_or_path": base, "dataset_name": data, "output_dir": tmp_path / folder, **values}
        recipe = load_recipe(verb, None, helpers.tiny.settings(**chosen))
        made = Run(tmp_path / folder)
        if report:
            train_and_report(recipe, resume=resume, overwrite=overwrite)
        else:
            train(recipe, made, resume=resume, overwrite=overwrite, ask=Evidence(recipe, made))
        return made

    return run


def read_weights(folder: Path) -> dict[str, Any]:
    """Return every tensor of a saved model or adapter."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


@pytest.fixture
def weights() -> Callable[[Path], dict[str, Any]]:
    """Read the tensors of a folder."""
    return read_weights


@pytest.fixture
def losses() -> Callable[[Any], list[float]]:
    """Return the loss of every step of a Run."""
    return lambda run: [line["loss"] for line in run.metrics() if "loss" in line]


@pytest.fixture
def write_json() -> Callable[[Path, Any], Path]:
    """Write a JSON file."""

    def write(path: Path, value: Any) -> Path:
        path.write_text(json.dumps(value))
        return path

    return write
