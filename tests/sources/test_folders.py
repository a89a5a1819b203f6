from collections.abc import Callable
from pathlib import Path

import pytest

from poise.errors import DataError
from poise.sources import SourceSpec, load
from poise.sources.folders import split_of

Write = Callable[..., str]


def lineages(folder: Path, split: str | None) -> list[str]:
    return [example.lineage[0].partition("/")[2] for example in load(SourceSpec(str(folder), split=split)).examples]


@pytest.fixture
def folder(tmp_path: Path, jsonl: Write) -> Callable[..., Path]:
    def write(*names: str) -> Path:
        for name in names:
            jsonl({"text": name}, name=f"corpus/{name}")
        return tmp_path / "corpus"

    return write


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("train.jsonl.gz", "train"),
        ("train-00000-of-00002.parquet", "train"),
        ("data/train_sft-00000-of-00003-a3ecf92756993583.parquet", "train_sft"),
        ("train_1.jsonl", "train"),
        ("train/part-1.jsonl", "train"),
        ("helpful/train.jsonl", "train"),
        ("Test.csv", "test"),
        ("val.jsonl", "validation"),
        ("dev/a.jsonl", "validation"),
        ("trainer.jsonl", None),
        ("a.jsonl", None),
    ],
)
def test_name_says_the_split(name: str, split: str | None):
    assert split_of(Path(name)) == split


def test_files_of_a_folder_are_read_in_the_order_of_their_names(folder: Callable[..., Path]):
    assert lineages(folder("b.jsonl", "a.jsonl", "c/d.jsonl"), "train") == ["a.jsonl:1", "b.jsonl:1", "c/d.jsonl:1"]


def test_split_is_chosen_by_file_name(folder: Callable[..., Path]):
    path = folder("train-1.jsonl", "train-2.jsonl", "test.jsonl", "notes.jsonl")
    assert lineages(path, "train") == ["train-1.jsonl:1", "train-2.jsonl:1"]
    assert lineages(path, "test") == ["test.jsonl:1"]


def test_split_is_chosen_by_folder_name(folder: Callable[..., Path]):
    path = folder("train/a.jsonl", "test/a.jsonl")
    assert lineages(path, "test") == ["test/a.jsonl:1"]


def test_longer_names_stand_for_a_split_that_has_no_file_of_its_own(folder: Callable[..., Path]):
    path = folder("train_a.jsonl", "train_b.jsonl", "test.jsonl")
    assert lineages(path, "train") == ["train_a.jsonl:1", "train_b.jsonl:1"]
    assert lineages(path, "train_b") == ["train_b.jsonl:1"]


def test_no_split_takes_every_file(folder: Callable[..., Path]):
    assert lineages(folder("train.jsonl", "test.jsonl"), None) == ["test.jsonl:1", "train.jsonl:1"]


def test_slice_runs_over_the_files_of_the_split(folder: Callable[..., Path]):
    assert lineages(folder("a.jsonl", "b.jsonl", "c.jsonl"), "train[1:]") == ["b.jsonl:1", "c.jsonl:1"]


def test_hidden_files_and_metadata_are_not_data(folder: Callable[..., Path]):
    assert lineages(folder("a.jsonl", ".cache/b.jsonl", "dataset_infos.json"), "train") == ["a.jsonl:1"]


@pytest.mark.parametrize("names", [("train.jsonl", "validation.jsonl"), ("train/a.jsonl", "validation/a.jsonl")])
def test_missing_split_is_refused_with_those_that_are_there(folder: Callable[..., Path], names: tuple[str, ...]):
    with pytest.raises(DataError, match=r"no split 'test'[\s\S]*train, validation"):
        load(SourceSpec(str(folder(*names)), split="test"))


def test_single_file_is_the_split_train_or_what_its_name_says(jsonl: Write):
    path = jsonl({"text": "a"}, name="test.jsonl")
    for split in ("train", "test", None):
        assert len(load(SourceSpec(path, split=split)).examples) == 1
    with pytest.raises(DataError, match="no split 'validation'"):
        load(SourceSpec(path, split="validation"))


def test_every_bad_file_of_a_folder_is_reported_at_once(folder: Callable[..., Path]):
    path = folder("a.jsonl", "b.jsonl", "c.jsonl")
    (path / "a.jsonl").write_bytes(b"")
    (path / "c.jsonl").write_bytes(b"\0\0\0")
    with pytest.raises(DataError, match=r"2 problems[\s\S]*a\.jsonl: is empty[\s\S]*c\.jsonl: holds only NUL"):
        load(SourceSpec(str(path)))
