"""Datasets that `poise curate` did not write."""

import json
from pathlib import Path

import pytest

from poise.look.look import look
from poise.look.told import told


def test_any_dataset_can_be_looked_at(turns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = [{"messages": turns("ask", "r")}, {"messages": turns("q", "")}, {"other": 1}]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "test.jsonl").write_text(json.dumps({"text": "Plain."}) + "\n")
    facts = look(Path("mine"))
    assert facts["by_kind"] == {"conversation": {"train": 1}, "document": {"test": 1}}
    assert facts["by_source"]["mine"]["rows"] == 2
    assert facts["counts"] == {"in": 4, "used": 2}
    assert sorted((each["stage"], each["rows"]) for each in facts["dropped"]) == [("load", 1), ("load", 1)]
    assert facts["lengths"]["characters"]["prompt"]["longest"] == 3
    assert facts["clusters"] is None
    assert facts["page"] == "mine-look.html" and Path("mine-look.html").is_file()
    assert {each["id"] for each in facts["examples"]["mine"]} == {"mine/train.jsonl:1", "mine/test.jsonl:1"}


def test_a_dataset_of_which_nothing_can_be_trained_on_is_told_so(turns, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns("q", "")}) + "\n")
    facts = look(tmp_path / "rows.jsonl", out=tmp_path / "page.html")
    assert (facts["rows"], facts["counts"]) == (0, {"in": 1, "used": 0})
    assert told(facts).startswith("rows.jsonl: 0 rows · used 0 of 1 row read")
    assert "There is no row." in (tmp_path / "page.html").read_text()
