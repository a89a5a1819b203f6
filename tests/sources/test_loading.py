import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.errors import DataError
from poise.examples import Document, PreferencePair
from poise.sources import SourceSpec, load

Write = Callable[..., str]

values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just([])
rows = st.dictionaries(
    st.sampled_from(["text", "prompt", "chosen", "rejected", "messages", "label"]), values, max_size=4
)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows | values, min_size=1, max_size=8))
def test_every_row_is_used_or_dropped_whatever_it_holds(written: list[Any]):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
        try:
            loaded = load(SourceSpec(str(path)), on_bad_row="drop")
        except DataError as error:
            assert "fit no shape" in str(error)
        else:
            assert loaded.rows_in == {"a.jsonl": len(written)}
            assert len(written) == len(loaded.examples) + len(loaded.drops)
            places = [drop.place for drop in loaded.drops] + [example.lineage[0] for example in loaded.examples]
            assert sorted(places) == sorted(f"a.jsonl:{row}" for row in range(1, len(written) + 1))


def test_bad_rows_are_dropped_with_reasons_that_can_be_counted(jsonl: Write):
    path = jsonl({"text": "a"}, {"text": None}, {"text": 1}, {"text": ""}, ["a"], {"id": 1}, {"text": "b"})
    loaded = load(SourceSpec(path), on_bad_row="drop")
    assert [example.lineage for example in loaded.examples] == [("data.jsonl:1",), ("data.jsonl:7",)]
    assert Counter(drop.reason for drop in loaded.drops) == {
        "null value": 1,
        "wrong type": 1,
        "empty text": 1,
        "not an object": 1,
        "missing column": 1,
    }


def test_all_bad_rows_are_listed_at_once_and_the_way_to_drop_them_is_said(jsonl: Write):
    path = jsonl({"text": "a"}, *[{"text": None}] * 30)
    with pytest.raises(DataError) as caught:
        load(SourceSpec(path))
    message = str(caught.value)
    assert "30 problems" in message
    assert f"{path}:2 text: null" in message
    assert message.count("why:") == 20
    assert "… and 10 more" in message
    assert message.endswith("`on_bad_row: drop` leaves such rows out and counts them")


def test_bad_first_row_does_not_decide_the_shape(jsonl: Write):
    loaded = load(SourceSpec(jsonl([], {"text": "a"})), on_bad_row="drop")
    assert loaded.examples == [Document("a", "data.jsonl", ("data.jsonl:2",))]


def test_columns_restrict_what_is_looked_at(jsonl: Write):
    path = jsonl({"prompt": 7, "text": "a", "chosen": "b", "rejected": "c"})
    assert load(SourceSpec(path, columns=("text",))).examples == [Document("a", "data.jsonl", ("data.jsonl:1",))]


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ({"columns": ("chosen", "rejcted")}, ("no column 'rejcted'", "'chosen'")),
        ({"text_column": "prmpt"}, ("no column 'prmpt'", "did you mean 'prompt'")),
        ({"columns": ("id",)}, ("the columns 'id' fit no shape", "prompt, chosen, rejected", "messages")),
        ({"config": "main"}, ("config 'main'", "local path")),
        ({"revision": "v1"}, ("revision 'v1'", "local path")),
        ({"split": "train[5:]"}, ("selects no rows",)),
        ({"split": "train["}, ("cannot be understood",)),
    ],
)
def test_option_that_cannot_be_honoured_is_refused(jsonl: Write, options: dict[str, Any], fragments: tuple[str, ...]):
    path = jsonl({"id": 1, "prompt": "Hi", "chosen": "a", "rejected": "b"})
    with pytest.raises(DataError) as caught:
        load(SourceSpec(path, **options))
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_text_column_that_is_named_wins_over_other_shapes(jsonl: Write):
    path = jsonl({"prompt": "Hi", "chosen": "a", "rejected": "b"})
    assert isinstance(load(SourceSpec(path)).examples[0], PreferencePair)
    assert load(SourceSpec(path, text_column="chosen")).examples == [Document("a", "data.jsonl", ("data.jsonl:1",))]


def test_default_config_of_a_handbook_recipe_is_accepted_for_a_local_path(jsonl: Write):
    assert len(load(SourceSpec(jsonl({"text": "a"}), config="default")).examples) == 1


def test_near_name_is_offered_for_a_path_that_is_not_there(jsonl: Write):
    path = jsonl({"text": "a"}, name="train.jsonl")
    with pytest.raises(DataError, match=r"did you mean 'train\.jsonl'\?"):
        load(SourceSpec(path.replace("train.jsonl", "trian.jsonl")))


def test_slice_ends_before_a_bad_row(jsonl: Write):
    assert len(load(SourceSpec(jsonl({"text": "a"}, {"text": None}), split="train[:1]")).examples) == 1


def test_a_row_of_a_megabyte_and_a_thousand_small_ones_take_under_a_second(jsonl: Write):
    path = jsonl({"text": "é" * 1_000_000}, *[{"text": "a"}] * 1000)
    begun = time.perf_counter()
    assert len(load(SourceSpec(path)).examples) == 1001
    assert time.perf_counter() - begun < 1


def test_message_shows_what_a_file_could_smuggle_onto_a_terminal_escaped(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"\\u001b[2J \\ud800": 1, "\\u001b[2J \\ud800": 2}\n')
    with pytest.raises(DataError) as caught:
        load(SourceSpec(str(tmp_path / "a.jsonl")))
    assert str(caught.value).replace("\n", "").isprintable()
    assert r"\x1b[2J \ud800" in str(caught.value)
