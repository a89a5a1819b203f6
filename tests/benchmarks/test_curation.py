"""The arms of poise on a few hundred rows, and what the measured cells come to."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.clusters import Clusters
from curation.environments import UnavailableError, python_of
from curation.measure import Region, processor_seconds
from curation.plan import ARMS, Cell, Job, plan
from curation.prepare import prepare
from curation.processes import measure_apart
from curation.score import Found, Planted, one_of_each, scored
from curation.table import as_markdown, figures
from curation.worker import measure

ROWS = 500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Raw and stored rows, of which 40 are exact, 9 variant and 40 near copies."""
    path = tmp_path_factory.mktemp("curation")
    prepare(Job(Cell("exact", "poise", ROWS), path), seed=0)
    yield path


@pytest.mark.parametrize("arm", ["poise", "poise-keys", "poise-road"])
def test_poise_finds_every_planted_copy_that_is_exact_but_for_case_and_space(folder: Path, arm: str) -> None:
    result = measure(Job(Cell("exact", arm, ROWS), folder))
    assert result["kept"] == ROWS - 40 - 9
    assert (result["found"]["exact"], result["found"]["variant"]) == (1.0, 1.0)
    assert (result["found"]["near"], result["found"]["distractor"]) == (0.0, 0.0)
    assert (result["precision"], result["lost"]) == (1.0, 0.0)
    assert result["rows_per_cpu_second"] == ROWS / result["cpu_seconds"]


def test_poise_finds_near_copies_and_no_distractor(folder: Path) -> None:
    result = measure(Job(Cell("minhash", "poise", ROWS), folder))
    assert result["found"]["near"] >= 0.95
    assert result["found"]["distractor"] == 0.0
    assert (result["precision"], result["lost"]) == (1.0, 0.0)
    assert result["left"] <= 0.05


def test_both_steps_keep_what_the_whole_road_keeps(folder: Path) -> None:
    steps, road = (measure(Job(Cell("minhash", arm, ROWS), folder)) for arm in ("poise-after-exact", "poise-road"))
    assert steps["kept"] == road["kept"]
    assert (steps["left"], steps["lost"]) == (road["left"], road["lost"])
    assert steps["found"]["near"] is None


def test_a_worker_apart_tells_its_memory_and_the_kept_rows(folder: Path) -> None:
    """bagel's loop keeps the first of each text, so the 9 of other case or spacing stay."""
    result = measure_apart(Job(Cell("exact", "bagel", ROWS), folder), sys.executable)
    assert "failed" not in result, result
    assert result["kept"] == ROWS - 40
    assert result["found"] == {"exact": 1.0, "variant": 0.0, "near": 0.0, "distractor": 0.0}
    assert 10_000_000 < result["peak_bytes"] < 2_000_000_000


def test_a_worker_that_fails_is_told_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = measure_apart(Job(Cell("exact", "bagel", ROWS), tmp_path), sys.executable)
    assert result["failed"].startswith("FileNotFoundError")
    assert "Traceback" in capsys.readouterr().err


def test_the_processor_time_of_a_running_child_counts() -> None:
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    program = f"{burn}\nprint(flush=True)\ninput()"
    before = processor_seconds()
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdin
        child.stdout.readline()
        running = processor_seconds() - before
        child.stdin.write(b"\n")
        child.stdin.close()
    assert running >= 0.25  # the kernel counts in hundredths, twice
    assert running <= processor_seconds() - before


def test_a_region_tells_its_own_seconds() -> None:
    with Region() as region:
        sum(range(100_000))
    assert 0 < region.seconds < 5
    assert region.begun <= region.ended
    assert region.peak_bytes > 1_000_000


def test_rows_joined_in_pairs_are_one_cluster() -> None:
    clusters = Clusters(5)
    for one, other in ((4, 3), (3, 1)):
        clusters.join(one, other)
    assert clusters.labels() == [0, 1, 2, 1, 1]
    assert one_of_each(clusters.labels()).dropped == {3, 4}


# 0 with copies 1 (exact) and 2 (near); 3 with distractor 4; 5 alone
PLANTED = Planted(["original", "exact", "near", "original", "distractor", "original"], [0, 0, 0, 3, 3, 5])


def test_pairs_of_one_cluster_are_right_if_they_are_copies_of_one_original() -> None:
    """{0, 1}, {3, 4}: one right pair of two joined, of the three there are among 0, 1 and 2."""
    found = scored(one_of_each([0, 0, 2, 3, 3, 5]), PLANTED)
    assert (found["precision"], found["recall"]) == (1 / 2, 1 / 3)
    assert found["found"] == {"exact": 1.0, "variant": None, "near": 0.0, "distractor": 1.0}


def test_a_copy_is_left_beside_another_and_an_original_lost_with_its_last_row() -> None:
    """1 and 4 are dropped: 2 of the copies 1 and 2 stays beside 0; the distractor 4 is an original of its own."""
    found = scored(one_of_each([0, 0, 2, 3, 3, 5]), PLANTED)
    assert (found["kept"], found["left"], found["lost"]) == (4, 1 / 2, 1 / 4)


def test_without_clusters_only_what_was_kept_is_told() -> None:
    found = scored(Found(None, frozenset({1, 2})), PLANTED)
    assert (found["kept"], found["left"], found["lost"], found["precision"]) == (4, 0.0, 0.0, None)


def test_slow_peers_get_fewer_rows_and_poise_is_measured_on_as_few() -> None:
    cells = plan(["minhash"], ["datasketch", "datatrove"], 50_000, 10_000)
    assert cells == [
        Cell("minhash", "poise", 50_000),
        Cell("minhash", "poise-after-exact", 50_000),
        Cell("minhash", "poise-road", 50_000),
        Cell("minhash", "datasketch", 50_000),
        Cell("minhash", "poise", 10_000),
        Cell("minhash", "datatrove", 10_000),
    ]


def test_without_peers_only_poise_is_measured() -> None:
    cells = plan(list(ARMS), ["none"], 1_000_000, 10_000)
    assert {cell.rows for cell in cells} == {1_000_000}
    assert all(cell.is_ours for cell in cells)


def a_line(task: str, arm: str, rows: int, rate: float, peak: int = 100, **more: Any) -> dict[str, Any]:
    result = {
        "seconds": 1.0, "cpu_seconds": rows / rate, "rows_per_cpu_second": rate, "peak_bytes": peak, "kept": rows,
        "left": 0.0, "lost": 0.0, "precision": 1.0, "recall": 1.0, "found": {"exact": 1.0, "near": 0.5},
        "versions": {arm: "1.0"}, **more,
    }  # fmt: skip
    return {"cell": {"task": task, "arm": arm, "rows": rows}, "result": result}


def test_a_ratio_is_of_rows_per_processor_second() -> None:
    """On 1,000 rows poise does 40 rows a second, on 100 but 20, the peer 10."""
    lines = [
        a_line("minhash", "poise", 1000, 40.0),
        a_line("minhash", "poise", 100, 20.0, peak=200),
        a_line("minhash", "datatrove", 100, 10.0, peak=500),
    ]
    found = figures(lines)
    assert found["minhash: poise / datatrove, rows per CPU second"] == 4.0
    assert found["minhash, both on 100 rows: poise / datatrove, rows per CPU second"] == 2.0
    assert found["minhash, both on 100 rows: datatrove / poise, peak memory"] == 2.5
    assert found["minhash: poise, CPU seconds"] == 25.0
    assert found["minhash: poise, near found"] == 0.5


def test_an_arm_that_did_not_run_is_told_with_its_reason() -> None:
    failed = {"cell": {"task": "exact", "arm": "bagel", "rows": 10}, "failed": "skipped: none"}
    text = as_markdown([a_line("exact", "poise", 10, 40.0), failed], ["exact: poise, CPU seconds<=1"])
    assert "| bagel | skipped: none |" in text
    assert "exact: poise, CPU seconds: asked at most 1, measured 0.25: yes" in text
    assert "/ bagel" not in text


def test_a_peer_without_its_python_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="it needs Python 3\\.12"):
        python_of("text-dedup", tmp_path / "peers")
    assert python_of("bagel", tmp_path) == sys.executable


def test_an_environment_that_is_there_is_used(tmp_path: Path) -> None:
    (tmp_path / "datasketch").mkdir()
    (tmp_path / "datasketch" / "installed.txt").write_text("datasketch==2.0.0\npsutil==7.2.2")
    assert python_of("datasketch", tmp_path) == str(tmp_path / "datasketch" / "bin" / "python")


def test_the_planted_rows_are_what_the_raw_file_holds(folder: Path) -> None:
    job = Job(Cell("exact", "poise", ROWS), folder)
    lines = job.file.read_text().splitlines()
    planted = Planted(**json.loads(job.planted.read_text()))
    assert len(lines) == len(planted.kinds) == ROWS
    first = next(row for row, kind in enumerate(planted.kinds) if kind == "exact")
    assert json.loads(lines[first])["text"] == json.loads(lines[planted.originals[first]])["text"]
