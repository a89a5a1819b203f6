"""The step select: so many rows, in all or of each source."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from poise.curate.engine import Engine
from poise.curate.rows import DROPS, ROWS, Rows
from poise.curate.selection import hashes
from poise.curate.steps.select import Select
from poise.errors import RecipeError

IDS = ["a:1", "a:2", "a:3", "b:1"]
TOKENS = np.array([10, 30, 20, 5])
SOURCES = ["a", "a", "a", "b"]


def kept(tokens: Any = None, groups: list[str] | None = None, **keys: Any) -> list[str]:
    mask = Select(**keys).kept(IDS, tokens, groups)
    return [row_id for row_id, chosen in zip(IDS, mask, strict=True) if chosen]


def test_the_longest_or_the_shortest_rows_are_kept() -> None:
    assert kept(TOKENS, count=2, by="tokens") == ["a:2", "a:3"]
    assert kept(TOKENS, count=2, by="tokens", order="shortest") == ["a:1", "b:1"]
    assert kept(TOKENS, fraction=0.5, by="tokens") == ["a:2", "a:3"]


def test_each_source_keeps_its_own() -> None:
    assert kept(TOKENS, SOURCES, count=1, by="tokens") == ["a:2", "b:1"]


def test_by_hash_the_smallest_are_kept_and_another_seed_keeps_others() -> None:
    drawn = hashes(IDS, 42, "select")
    assert kept(count=1) == [IDS[int(drawn.argmin())]]
    assert len({tuple(kept(count=2, seed=seed)) for seed in range(20)}) > 1


def test_more_rows_than_there_are_is_all_of_them() -> None:
    assert kept(count=200_000) == IDS
    assert kept(TOKENS, count=200_000, by="tokens") == IDS


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "one of count and fraction"),
        ({"count": 1, "fraction": 0.5}, "one of count and fraction"),
        ({"count": 1, "order": "longest"}, "order goes with `by: tokens`"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Select(**keys)


def stored(folder: Path, *measured: pa.Table) -> Rows:
    """Four rows whose content no selection looks at."""
    other = {
        "kind": "document",
        "place": "",
        "lineage": [],
        "rank": "",
        "question": "",
        "characters": 1,
        "content": "{}",
    }
    rows = [
        {**other, "id": row_id, "source": source, "stratum": row_id[-1]}
        for row_id, source in zip(IDS, SOURCES, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=ROWS), folder / "rows.parquet")
    return Rows(Engine(), [folder / "rows.parquet"], DROPS.empty_table().select(["id"]), len(rows), measured)


def test_the_step_drops_the_others_with_what_they_have(tmp_path: Path) -> None:
    measured = pa.table({"id": IDS, "tokens": TOKENS})
    decisions = Select(count=1, by="tokens", per="source").decide(stored(tmp_path, measured))
    assert [(row["id"], row["reason"], row["evidence"]) for row in decisions.drops.to_pylist()] == [
        ("a:1", "not among the longest", "10 tokens"),
        ("a:3", "not among the longest", "20 tokens"),
    ]


def test_a_stratum_belongs_to_its_source(tmp_path: Path) -> None:
    """a:1 and b:1 are both of stratum 1."""
    rows = stored(tmp_path)
    assert len(Select(count=1, per="stratum").decide(rows).drops) == 0
    assert Select(count=1, per="source").decide(rows).drops["evidence"].to_pylist() == ["count 1 per source"] * 2


def test_tokens_must_have_been_counted(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="put the step tokens before it"):
        Select(count=1, by="tokens").decide(stored(tmp_path))
