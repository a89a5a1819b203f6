"""Every row that goes in is used or is in the ledger with its reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.curate.curation import Curation
from poise.curate.entry import SourceEntry
from poise.curate.pipeline import curate
from poise.errors import DataError
from poise.recipe import load_recipe
from poise.recipe_sections import DataSection
from poise.run import Run, file_sha256
from poise.train.data import load_examples
from poise.train.prepare import prepare

MIXTURE = "dataset_mixture={datasets: [{id: %s, weight: %s}], test_split_size: %s}"


def balanced(counts: dict[str, Any]) -> bool:
    """Whether in = used + dropped, in all and for every source."""
    each = [counts, *counts["by_source"].values()]
    return all(one["in"] == one["used"] + sum(one["dropped"].values()) for one in each)


@pytest.fixture
def mixed(tiny: Any, tmp_path: Path) -> Path:
    """Twelve good conversations and five that are lost, each in its way."""
    good = [tiny.conversation(f"Say {index}", str(index)) for index in range(12)]
    bad = [
        {"messages": [{"role": "user", "content": "Say nothing"}, {"role": "assistant", "content": " "}]},
        tiny.conversation("Say a lot", "apple " * 300),
        {"messages": [{"role": "wizard", "content": "?"}]},
        {"messages": "no turns"},
        tiny.conversation("Say <|im_end|>", "x" * 300),
    ]
    return tiny.write_rows(tmp_path / "mixed.jsonl", good + bad)


def test_every_way_of_losing_a_row_is_counted(mixed: Path, tiny: Any, base: Path, tmp_path: Path) -> None:
    overrides = tiny.settings(model_name_or_path=base, output_dir=tmp_path / "run", on_bad_row="drop", max_length=64,
                              max_train_samples=5)  # fmt: skip
    mixture = f"dataset_mixture={{datasets: [{{id: {mixed}, weight: 0.8}}], test_split_size: 2}}"
    prepared = prepare(load_recipe("sft", None, [*overrides, mixture]))
    counts = Run(tmp_path / "run").write_ledger(prepared.loaded.rows_in, prepared.drops)
    assert balanced(counts)
    assert counts["in"] == 17
    assert counts["used"] == len(prepared.rendered.train) + len(prepared.rendered.held_out)
    assert counts["dropped"]["outside its fraction"] == 3
    assert counts["dropped"]["over max_train_samples"] == 14 - 3 - 2 - 5
    lines = [json.loads(line) for line in (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()]
    assert len(lines) == sum(counts["dropped"].values())
    assert all(line["reason"] and line["place"].startswith("mixed.jsonl:") for line in lines)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 30),
    fraction=st.floats(0.2, 1.0),
    held_out=st.one_of(st.none(), st.integers(1, 4), st.floats(0.05, 0.6)),
    most=st.one_of(st.none(), st.integers(1, 40)),
)
def test_nothing_is_lost_between_loading_and_training(
    rows: int, fraction: float, held_out: float | None, most: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": f"row {index % 20}"}) + "\n" for index in range(rows)))
    section = DataSection.model_validate(
        {
            "dataset_mixture": {"datasets": [{"id": str(file), "weight": fraction}], "test_split_size": held_out},
            "max_train_samples": most,
        }
    )
    try:
        loaded = load_examples(section, ("document",), "cpt")
    except DataError as error:
        assert "holds out all" in str(error)
        return
    assert loaded.rows_in.total() == rows == len(loaded.train) + len(loaded.held_out) + len(loaded.drops)
    assert not {example.id for example in loaded.train} & {example.id for example in loaded.held_out}


def test_a_count_takes_so_many_rows_or_all_and_the_rest_is_in_the_ledger(tiny: Any, tmp_path: Path) -> None:
    file = tiny.write_rows(tmp_path / "rows.jsonl", ({"text": f"row {index}"} for index in range(20)))
    for count, used in ((5, 5), (50, 20)):
        mixture = {"datasets": [{"id": str(file), "count": count}]}
        loaded = load_examples(DataSection.model_validate({"dataset_mixture": mixture}), ("document",), "cpt")
        assert len(loaded.train) == used
        assert [drop.reason for drop in loaded.drops] == ["over its count"] * (20 - used)


def test_the_same_seed_draws_the_same_rows(tiny: Any, tmp_path: Path) -> None:
    file = tiny.write_rows(tmp_path / "rows.jsonl", ({"text": f"row {index}"} for index in range(50)))

    def draw(seed: int) -> list[str]:
        mixture = {"datasets": [{"id": str(file), "weight": 0.5}], "seed": seed, "test_split_size": 5}
        loaded = load_examples(DataSection.model_validate({"dataset_mixture": mixture}), ("document",), "cpt")
        return [example.id for example in (*loaded.train, *loaded.held_out)]

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize(
    ("verb", "row", "told"),
    [
        ("sft", {"prompt": "a", "chosen": "b", "rejected": "c"}, "holds preference pairs"),
        (
            "dpo",
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "conversations",
        ),
        ("orpo", {"text": "plain"}, "plain text"),
    ],
)
def test_rows_of_another_kind_are_refused_with_their_verb(
    verb: str, row: dict[str, Any], told: str, train_run: Any
) -> None:
    with pytest.raises(DataError) as caught:
        train_run(verb, [row])
    message = str(caught.value)
    assert f"{verb} trains on" in message
    assert told in message
    assert "run.jsonl:1" in message
    expected = {"sft": "dpo, orpo", "dpo": "sft", "orpo": "cpt"}[verb]
    assert expected in message


def test_a_run_without_a_row_left_is_refused_with_the_reasons(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row is left to train on \(3 too long\)"):
        train_run("sft", [tiny.conversation(f"Say {index}", "apple " * 100) for index in range(3)], max_length=16)
    assert not (tmp_path / "run" / "model").exists()


def test_an_overlong_prompt_loses_its_oldest_turns_when_asked(tiny: Any, train_run: Any) -> None:
    turns = [{"role": role, "content": "apple " * 20} for _ in range(4) for role in ("user", "assistant")]
    run = train_run("sft", [{"messages": turns}], max_length=128, overlong="truncate_prompt", max_steps=1)
    assert run.ledger()["dropped"] == {}
    assert run.manifest["data"]["tokens"] <= 128


def test_a_curated_folder_brings_its_sources_into_the_run(tiny: Any, base: Path, tmp_path: Path) -> None:
    raw = [tiny.write_rows(tmp_path / f"{name}.jsonl", [tiny.conversation(f"Say {name}", name)]) for name in "ab"]
    curated = tmp_path / "curated"
    curate(Curation(out=str(curated), sources=tuple(SourceEntry(path=str(path)) for path in raw)))
    overrides = tiny.settings(model_name_or_path=base, output_dir=tmp_path / "run", dataset_name=curated)
    loaded = prepare(load_recipe("sft", None, overrides)).loaded
    assert dict(loaded.rows_in) == {"a.jsonl": 1, "b.jsonl": 1}
    assert [example.lineage for example in loaded.train] == [
        ("curated/conversation/train-00000.parquet:1", "a.jsonl:1"),
        ("curated/conversation/train-00000.parquet:2", "b.jsonl:1"),
    ]
    assert loaded.curations == {str(curated): file_sha256(curated / "curation.json")}
