"""One process of a machine renders, the others map what it stored; they hear of its failure and do not outwait it."""

import itertools
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from poise.errors import DataError, StoppedElsewhere
from poise.holder import myself
from poise.recipe import Recipe, load_recipe
from poise.train import rendered_once
from poise.train.prepare import prepare
from poise.train.rendered_once import render_once


@pytest.fixture
def recipe(tiny: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("POISE_CACHE", str(tmp_path / "cache"))
    rows = tiny.uneven_rows(12)
    rows[3]["messages"][-1]["content"] *= 400
    tiny.write_rows(tmp_path / "data" / "train.jsonl", rows)
    tiny.write_rows(tmp_path / "data" / "test.jsonl", tiny.uneven_rows(4))
    settings = {"model_name_or_path": base, "dataset_name": tmp_path / "data", "output_dir": tmp_path / "run"}
    return load_recipe("sft", None, tiny.settings(**settings, dataset_test_split="test", max_length=200))


def begin(monkeypatch: pytest.MonkeyPatch, local_rank: int) -> None:
    """Be a process that has not rendered yet."""
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    monkeypatch.setattr(rendered_once, "_TIMES", itertools.count())


def test_others_have_the_same_rows_without_reading_any_data(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prepare(recipe)
    begin(monkeypatch, 0)
    first = render_once(recipe)
    (tmp_path / "data" / "train.jsonl").unlink()
    begin(monkeypatch, 1)
    other = render_once(recipe)
    first.forget()
    assert not list((tmp_path / "cache" / "rows").iterdir())
    for once in (first, other):
        for side in ("train", "held_out"):
            stored, rows = (getattr(each.rendered, side) for each in (once.prepared, expected))
            assert [(row.digest(), row.id, row.place) for row in stored] == [
                (row.digest(), row.id, row.place) for row in rows
            ]
        assert once.facts == json.loads(json.dumps(expected.rendered.facts()))
        assert once.prepared.optimizer_steps(recipe, 2) == expected.optimizer_steps(recipe, 2)
        assert once.prepared.tokenizer.stop_ids == expected.tokenizer.stop_ids
    assert [drop.reason for drop in first.prepared.drops] == [drop.reason for drop in expected.drops] != []


def test_others_wait_and_end_as_the_one_that_renders(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "train.jsonl").write_text('{"messages": 1}\n')
    ended: list[BaseException] = []
    begin(monkeypatch, 1)

    def wait() -> None:
        try:
            render_once(recipe)
        except BaseException as error:  # kept for the other thread to look at
            ended.append(error)

    other = threading.Thread(target=wait)
    other.start()
    other.join(0.3)
    assert other.is_alive()
    begin(monkeypatch, 0)
    with pytest.raises(DataError) as told:
        render_once(recipe)
    other.join(10)
    (error,) = ended
    assert isinstance(error, StoppedElsewhere)
    assert (str(error), error.exit_code) == (str(told.value), 2)


def test_nobody_waits_for_a_process_that_was_killed(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(monkeypatch, 1)
    folder = rendered_once._folder()
    folder.mkdir(parents=True)
    (folder / "writer.json").write_text(json.dumps(myself() | {"since": 0.0}))
    begin(monkeypatch, 1)
    with pytest.raises(StoppedElsewhere, match="has ended"):
        render_once(recipe)
    begin(monkeypatch, 0)
    monkeypatch.setattr(rendered_once.os, "getppid", rendered_once.os.getpid)
    render_once(recipe).forget()
    assert not folder.exists()  # what it left is removed by the next run


def test_where_nobody_is_known_to_be_the_first_each_renders_for_itself(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in rendered_once.LOCAL_RANKS:
        monkeypatch.delenv(name, raising=False)
    once = render_once(recipe)
    (folder,) = (tmp_path / "cache" / "rows").iterdir()
    assert folder.name.endswith(f"-{os.getpid()}") and len(once.prepared.rendered.train) == 11
    once.forget()
