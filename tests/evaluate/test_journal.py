"""The journal: what a kill leaves behind is read, and nothing is kept twice."""

from pathlib import Path

from poise.evaluate.journal import Journal, content_key


def test_an_entry_is_found_again_and_the_first_of_a_key_holds(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.keep("a", {"raw": 1})
    journal.keep("a", {"raw": 2})
    assert journal.get("a") == {"raw": 1}
    assert Journal(tmp_path / "j.jsonl").get("a") == {"raw": 1}
    assert (tmp_path / "j.jsonl").read_text().count("\n") == 1


def test_a_line_that_a_kill_cut_off_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    Journal(file).keep("a", {"raw": 1})
    with file.open("a") as torn:
        torn.write('{"key": "b", "rep')
    journal = Journal(file)
    journal.keep("b", {"raw": 2})
    assert (len(Journal(file)), Journal(file).get("b")) == (2, {"raw": 2})


def test_a_lone_surrogate_does_not_stop_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.keep("a", {"raw": "\ud800"})
    assert len(Journal(tmp_path / "j.jsonl")) == 1


def test_equal_content_has_one_key_whatever_the_order_of_its_names() -> None:
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1}) != content_key({"a": 1, "b": [3]})
