"""A Run folder: its ledger adds up, its metrics survive a kill and a resume, its lock has one holder."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import ResourceError, RunError
from poise.run import Drop, Run, file_sha256, now, read_lines, write_whole
from poise.sealed import seal, stage


def test_the_ledger_adds_up_by_source_and_reason(tmp_path: Path) -> None:
    run = Run(tmp_path)
    drops = [
        Drop("load", "a", "a:1", "empty"),
        Drop("render", "a", "a:2", "too long"),
        Drop("mix", "b", "b:1", "empty"),
    ]
    counts = run.write_ledger(Counter({"a": 5, "b": 2, "c": 1}), drops)
    assert counts == {
        "in": 8,
        "used": 5,
        "dropped": {"empty": 2, "too long": 1},
        "by_source": {
            "a": {"in": 5, "used": 3, "dropped": {"empty": 1, "too long": 1}},
            "b": {"in": 2, "used": 1, "dropped": {"empty": 1}},
            "c": {"in": 1, "used": 1, "dropped": {}},
        },
    }
    assert run.ledger() == counts
    assert [line["place"] for line in read_lines(tmp_path / "ledger.jsonl")] == ["a:1", "a:2", "b:1"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "empty", "too long"]))))
def test_in_is_used_plus_dropped(rows: list[tuple[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        drops = [Drop("load", source, "", reason) for source, reason in rows if reason]
        counts = Run(Path(folder)).write_ledger(Counter(source for source, _ in rows), drops)
    for each in (counts, *counts["by_source"].values()):
        assert each["in"] == each["used"] + sum(each["dropped"].values())
    assert counts["used"] == sum(not reason for _, reason in rows)


def test_metrics_of_one_step_are_one_line_and_a_resumed_step_replaces_the_lost_one(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.append_metrics({"step": 1, "loss": 3.0})
    run.append_metrics({"step": 2, "loss": 2.0})
    run.append_metrics({"step": 2, "eval_loss": 2.5})
    run.append_metrics({"step": 3, "loss": 9.0})
    run.append_metrics({"step": 3, "loss": 1.0})
    assert run.metrics() == [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.0, "eval_loss": 2.5},
        {"step": 3, "loss": 1.0},
    ]


def test_a_last_line_that_was_cut_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": ')
    assert list(read_lines(tmp_path / "lines.jsonl")) == [{"a": 1}, {"a": 2}]
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_a_line_after_a_cut_one_does_not_swallow_it(tmp_path: Path) -> None:
    """The process was killed while writing step 2, then resumed from step 1."""
    run = Run(tmp_path)
    run.append_metrics({"step": 1, "loss": 3.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    run.append_metrics({"step": 2, "loss": 2.0})
    assert run.metrics() == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]


def test_the_manifest_is_merged(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.manifest == {}
    run.update_manifest(status="running", path=tmp_path)
    run.update_manifest(status="done")
    assert run.manifest == {"status": "done", "path": str(tmp_path)}


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run: it has no manifest\.json"):
        Run.open(tmp_path)
    Run(tmp_path).update_manifest(status="done")
    assert Run.open(tmp_path).path == tmp_path


def test_clearing_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.update_manifest(status="done")
    run.write_ledger(Counter(a=1), [])
    run.append_metrics({"step": 1})
    for name in ("answers", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    (tmp_path / "checkpoints").mkdir()
    for name in ("model", "checkpoints/checkpoint-1"):
        (stage(tmp_path) / "file").write_text("")
        seal(next(tmp_path.glob(".staging-*")), tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    assert run.is_begun
    run.clear()
    assert not run.is_begun
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "notes.txt"]


def test_clearing_leaves_checkpoints_and_models_of_others(tmp_path: Path) -> None:
    for name in ("model", "checkpoints/checkpoint-1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("")
    Run(tmp_path).clear()
    assert (tmp_path / "model" / "file").exists()
    assert (tmp_path / "checkpoints" / "checkpoint-1" / "file").exists()


def test_a_lock_is_given_free_and_taken_again(tmp_path: Path) -> None:
    run = Run(tmp_path / "deep" / "run")
    run.lock()
    run.unlock()
    run.lock()
    assert json.loads((run.path / ".lock").read_text())["pid"] == os.getpid()


def test_a_lock_that_is_held_names_its_holder(tmp_path: Path) -> None:
    Run(tmp_path).lock()
    with pytest.raises(ResourceError, match=f"in use by process {os.getpid()} on {socket.gethostname()}"):
        Run(tmp_path).lock()


def test_a_lock_on_another_machine_is_respected_and_says_which_file_to_remove(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": 0.0}))
    with pytest.raises(ResourceError, match=r"process 1 on elsewhere(.|\n)*remove .*\.lock"):
        Run(tmp_path).lock()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": "x"}'])
def test_a_damaged_lock_is_taken_over(content: str, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(content)
    Run(tmp_path).lock()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    lock = {"pid": int(done.stdout), "host": socket.gethostname(), "since": 0.0}
    (tmp_path / ".lock").write_text(json.dumps(lock))
    Run(tmp_path).lock()


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="cannot write to .*choose another output_dir".replace(" .*", r" (.|\n)*")):
            Run(path).lock()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "file.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "new" / "file.txt", "new \ud800")
    assert (tmp_path / "new" / "file.txt").read_text() == "old"
    write_whole(tmp_path / "new" / "file.txt", "new ü")
    assert (tmp_path / "new" / "file.txt").read_text(encoding="utf-8") == "new ü"


def test_a_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    """SHA-256 of `abc`, from FIPS 180-2."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_time_is_in_utc_to_the_second() -> None:
    assert now().endswith("Z")
    assert len(now()) == len("2024-01-01T00:00:00Z")
