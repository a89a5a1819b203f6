"""Raw rows of twelve sources that the catalog reads, and a whole curation of a few hundred of them."""

from pathlib import Path
from typing import Any

import pytest

import bench_bagel_pipeline as bench
from curation.raw_rows import SOURCES, Draw, shares, write_sources
from poise.sources.files import read_file

SENTENCES = 2000


def test_sources_together_have_the_rows_asked_for() -> None:
    for rows in (300, 100_001, 1_670_000):
        counts = shares(rows)
        assert sum(counts.values()) == rows
        assert min(counts.values()) >= 1
    assert shares(1_670_000)["squad_v2"] == 130_319


def test_the_same_seed_writes_the_same_rows(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        write_sources(tmp_path / name, 120, seed, SENTENCES)
    one, same, other = (
        [list(read_file(file)) for file in sorted((tmp_path / name).rglob("*.parquet"))]
        for name in ("one", "same", "other")
    )
    assert one == same != other


def test_about_six_in_a_hundred_questions_were_asked_before() -> None:
    draw = Draw(0, SENTENCES)
    first, _ = draw.exchanges(20_000, 60, 30)
    second, _ = draw.exchanges(20_000, 60, 30)
    assert len(set(second) & set(first)) == pytest.approx(0.03 * 20_000, rel=0.15)
    assert draw.leaked == pytest.approx(0.0005 * 40_000, abs=15)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Curate 400 rows in this process."""
    folder = tmp_path_factory.mktemp("mix")
    raw = write_sources(folder / "raw", 400, 0, SENTENCES)
    return {"raw": raw, **bench.run(folder, 0)}


def test_every_row_is_in_the_dataset_or_in_the_ledger(result: dict[str, Any]) -> None:
    assert result["in"] == 400
    assert result["balanced"]
    assert result["made"] == result["used"] + sum(result["dropped"].values())
    assert set(result["dropped"]) == set(bench.STEPS)
    assert set(result["raw"]["sources"]) == set(SOURCES)


def test_what_it_took_is_told(result: dict[str, Any]) -> None:
    found = bench.figures(result)
    assert found["rows per CPU second"] == 400 / result["cpu_seconds"]
    assert found["balanced"] == 1.0
    text = bench.as_markdown(result, found, ["asked"])
    assert "400 rows of 12 sources" in text
    assert "| dropped by quality |" in text
    assert {"load", "write", *bench.STEPS} <= set(result["stages"])


def test_a_stage_that_loses_a_row_is_not_balanced() -> None:
    counts = {"in": 3, "made": 3, "used": 2}
    load = {"name": "load-a", "in": 3, "used": 3, "dropped": {}}
    step = {"name": "exact", "in": 3, "left": 2, "dropped": {"copy": 1}}
    assert bench.balance(counts, [load, step])["balanced"]
    assert not bench.balance(counts, [load, step | {"left": 1}])["balanced"]
