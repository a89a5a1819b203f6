"""Data named as a training recipe names it becomes sources, each mistake told with its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from poise.curate.curation import Curation, load_curation
from poise.curate.pipeline import curate
from poise.errors import RecipeError


@pytest.fixture
def loaded(tmp_path: Path):
    def load(text: str, *overrides: str) -> Curation:
        (tmp_path / "recipe.yaml").write_text(f"out: {tmp_path / 'out'}\n{text}")
        return load_curation(tmp_path / "recipe.yaml", overrides)

    return load


def told(curation: Curation) -> list[dict[str, Any]]:
    return [entry.model_dump(exclude_defaults=True) for entry in curation.sources]


def test_a_mixer_becomes_sources_and_its_test_splits_are_held_out_whole(loaded) -> None:
    found = told(loaded("dataset_mixer: {boolq: 0.5, org/chats: 1.0}\n"))
    assert found == [
        {"source": "boolq", "name": "boolq_train", "split": "train", "fraction": 0.5},
        {"path": "org/chats", "name": "org/chats_train", "split": "train"},
        {"source": "boolq", "name": "boolq_test", "split": "test", "held_out": True},
        {"path": "org/chats", "name": "org/chats_test", "split": "test", "held_out": True},
    ]


def test_two_training_splits_take_the_fraction_of_their_own_dataset_and_none_is_lost(loaded) -> None:
    # the handbook's mixer gave A's second split the fraction of B, and dropped B
    text = "dataset_mixer: {A: 0.5, B: 1.0}\ndataset_splits: [train_1, train_2]\ndataset_configs: [x, y]\n"
    assert told(loaded(text)) == [
        {"path": "A", "config": "x", "name": "A_train_1", "split": "train_1", "fraction": 0.5},
        {"path": "A", "config": "x", "name": "A_train_2", "split": "train_2", "fraction": 0.5},
        {"path": "B", "config": "y", "name": "B_train_1", "split": "train_1"},
        {"path": "B", "config": "y", "name": "B_train_2", "split": "train_2"},
    ]


def test_a_mixture_says_split_columns_fraction_and_count(loaded) -> None:
    text = """\
dataset_mixture:
  datasets:
  - {id: A, config: x, split: 'train[:10%]', columns: [prompt, completion], weight: 0.25, revision: abc}
  - {id: A, config: y, count: 100}
  seed: 7
  test_split_size: 0.1
"""
    curation = loaded(text)
    assert told(curation) == [
        {
            "path": "A", "config": "x", "name": "A_train[:10%]", "split": "train[:10%]", "revision": "abc",
            "columns": ("prompt", "completion"), "fraction": 0.25,
        },
        {"path": "A", "config": "y", "name": "A_train", "split": "train", "count": 100},
    ]  # fmt: skip
    assert (curation.seed, curation.split.test) == (7, 0.1)
    assert told(loaded(text, "dataset_mixture.datasets.1.count=5"))[1]["count"] == 5


def test_one_dataset_is_called_by_its_own_name_and_may_stand_beside_sources(loaded) -> None:
    text = "sources: [{source: piqa}]\ndataset_name: boolq\ndataset_train_split: train\n"
    assert told(loaded(text, "sources.boolq.confidence=1")) == [
        {"source": "piqa"},
        {"source": "boolq", "split": "train", "confidence": 1},
    ]


def test_what_a_fraction_takes_is_what_the_steps_leave_and_no_test_row_is_left_out(
    loaded, tmp_path: Path, chat
) -> None:
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        train = [chat(f"{name} asks {index}?") for index in range(40)]
        rows = {"train": [*train, *train[:20]], "test": [chat(f"{name} is tested on {index}?") for index in range(9)]}
        for split, listed in rows.items():
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    counts = curate(loaded(f"datasets_mixer: {{{tmp_path / 'a'}: 0.25, {tmp_path / 'b'}: 1}}\n"))
    used = {source: found["used"] for source, found in counts["by_source"].items()}
    assert used == {"a_train": 10, "b_train": 40, "a_test": 9, "b_test": 9}
    assert counts["written"]["conversation"] == {"test": 18, "train": 50}
    assert counts["dropped"] == {"exact: copy": 40, "sample: not sampled": 30}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dataset_mixer: {A: 2}", r"recipe.yaml:2:.*\n.*\n.*at most 1, got 2"),
        ("dataset_mixer: {A: 1}\ndataset_splits: [validation]", r"recipe.yaml:3:.*\n.*\n.*neither 'train' nor 'test'"),
        ("dataset_mixer: {A: 1, B: 1}\ndataset_configs: [x]", r"recipe.yaml:3:.*\n.*\n.*1 configs for 2 datasets"),
        ("dataset_mixer: {A: 1}\ndataset_name: B", "data is named in 2 ways"),
        ("dataset_mixer: {A: 1}\ndatasets_mixer: {A: 1}", r"recipe.yaml:3:.*\n.*\n.*two spellings of one key"),
        (
            "dataset_mixture: {datasets: [{id: A, wieght: 1}]}",
            r"recipe.yaml:2:.*\n.*\n.*'wieght'; did you mean 'weight'",
        ),
        ("dataset_mixture: {datasets: [{id: A, weight: 1, count: 3}]}", "count and weight both say"),
        ("dataset_mixture: {datasets: [{id: A}], seed: 1}\nseed: 2", r"recipe.yaml:2:.*\n.*\n.*`seed` is 2"),
        (
            "dataset_mixture: {datasets: [{id: A}], test_split_size: 9}\nsplit: {test: 9}",
            "`split` says what is held out",
        ),
        ("dataset_mixer: {toxic_dpo: 1}", r"recipe.yaml:2:.*\n.*\n.*toxic_dpo: Chosen answers are harmful"),
        ("dataset_mixr: {A: 1}", "unknown key 'dataset_mixr'; did you mean 'dataset_mixer'"),
    ],
)
def test_a_mistake_is_told_with_its_place(loaded, text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        loaded(text + "\n")
