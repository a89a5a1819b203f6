from pathlib import Path

import datasets
import pytest

from poise.errors import DataError
from poise.examples import Conversation, Document, Message
from poise.sources import SourceSpec, load


@pytest.fixture(autouse=True)
def quiet_progress():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def saved(folder: Path) -> SourceSpec:
    rows = {"messages": [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]]}
    datasets.Dataset.from_dict(rows).save_to_disk(folder / "one")
    return SourceSpec(str(folder / "one"))


def saved_splits(folder: Path) -> str:
    parts = {name: datasets.Dataset.from_dict({"text": [name, "b"]}) for name in ("train_sft", "test_sft")}
    datasets.DatasetDict(parts).save_to_disk(folder / "many")
    return str(folder / "many")


def test_saved_dataset_is_read_with_its_rows_numbered(tmp_path: Path):
    loaded = load(saved(tmp_path))
    messages = (Message("user", "Hi"), Message("assistant", "Hello"))
    assert loaded.examples == [Conversation(messages, "one", ("one:1",))]
    assert loaded.rows_in == {"one": 1}


def test_split_of_a_saved_dataset_dict_is_chosen_and_sliced(tmp_path: Path):
    loaded = load(SourceSpec(saved_splits(tmp_path), split="test_sft[:1]"))
    assert loaded.examples == [Document("test_sft", "many", ("many/test_sft:1",))]


def test_missing_split_of_a_saved_dataset_dict_is_refused_with_those_that_are_there(tmp_path: Path):
    with pytest.raises(DataError, match=r"no split 'train_stf'; did you mean 'train_sft'\?[\s\S]*train_sft, test_sft"):
        load(SourceSpec(saved_splits(tmp_path), split="train_stf"))


def test_saved_dataset_with_a_damaged_table_is_refused(tmp_path: Path):
    spec = saved(tmp_path)
    for table in (tmp_path / "one").glob("*.arrow"):
        table.write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be loaded"):
        load(spec)


def test_name_that_is_no_path_and_no_reachable_dataset_says_both():
    with pytest.raises(DataError) as caught:
        load(SourceSpec("nobody/nothing", split="train[:5]"))
    for fragment in ("nobody/nothing: no such path here", "not loaded from the Hugging Face Hub", "to do:"):
        assert fragment in str(caught.value)


def test_name_that_cannot_be_a_hub_id_never_asks_the_hub():
    for name in ("data/trian.jsonl", "./nobody/nothing", "a/b/c", "imdb"):
        with pytest.raises(DataError, match="no such file or folder"):
            load(SourceSpec(name))
