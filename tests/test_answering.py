"""What names of models stand for."""

import json
from pathlib import Path

import pytest

from poise.answering import _of_a_run, labelled  # pyright: ignore[reportPrivateUsage]
from poise.errors import RecipeError, RunError


def test_a_model_is_called_by_the_end_of_its_name_or_as_it_is_asked() -> None:
    names = ["runs/sft/model/", "Org/name-7b", "https://host/v1#served/name", "mine=runs/dpo/model", "runs/orpo"]
    assert labelled(names) == {
        "sft": names[0], "name-7b": names[1], "served/name": names[2], "mine": "runs/dpo/model", "orpo": names[4],
    }  # fmt: skip


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"two models are called 'model-a'\n.*model-a-2=b/model-a"):
        labelled(["a/model-a", "b/model-a"])


def test_a_run_stands_for_its_model(tmp_path: Path) -> None:
    assert _of_a_run("Org/name") == "Org/name"
    assert _of_a_run(str(tmp_path)) == str(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"verb": "sft"}))
    with pytest.raises(RunError, match="holds no model"):
        _of_a_run(str(tmp_path))
    (tmp_path / "model").mkdir()
    assert _of_a_run(str(tmp_path)) == str(tmp_path / "model")
