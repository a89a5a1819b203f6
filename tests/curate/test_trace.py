"""A row's passport, and what changed between two builds."""

import pytest

from poise.curate.diff import diff
from poise.curate.diff import told as told_diff
from poise.curate.trace import told, trace
from poise.errors import RunError


def test_a_kept_row_shows_its_source_its_decisions_where_it_is_and_what_lost_to_it(build, chat) -> None:
    built = build({"a": [chat("1"), chat("2")], "b": [chat("1", "No.")]})
    row = next(row for row in built.rows() if row["messages"][0]["content"] == "1")
    (passport,) = trace(built.out, row["id"])
    assert passport["lineage"] == ["a.jsonl:1"]
    assert passport["decisions"] == [{"stage": "exact", "decision": "kept"}]
    assert passport["written"] == ["data/conversation/train-00000.parquet:1"]
    assert [each["place"] for each in passport["lost"]] == ["b.jsonl:1"]
    assert "instead of" in told(passport)


def test_a_dropped_row_names_the_row_that_was_kept(build, chat) -> None:
    built = build({"a": [chat("1")], "b": [chat("1", "No.")]})
    (drop,) = built.ledger()
    for name in (drop["id"], drop["id"].partition(":")[2], "b@b.jsonl:1"):
        (passport,) = trace(built.out, name)
        assert passport["written"] == []
        assert passport["decisions"][0]["decision"].startswith("dropped: copy")
        assert built.rows()[0]["id"] in passport["decisions"][0]["decision"]


def test_a_dropped_row_shows_its_neighbours_the_kept_one_with_its_text_and_how_alike_it_is(
    build, chat, tmp_path
) -> None:
    said = "the quick brown fox jumps over the lazy dog near the old stone bridge"
    exam = tmp_path / "exam.jsonl"
    exam.write_text('{"question": "Which metal stays liquid at the temperature of a room?"}\n')
    leaks = [chat(f"{how}: which metal stays liquid at the temperature of a room", "Mercury.") for how in ("A", "B")]
    built = build(
        {"a": [chat(said), *leaks], "b": [chat(f"{said} again")], "c": [chat(f"{said} today")]},
        steps=[{"decontaminate": {"benchmarks": [{"name": "exam", "path": str(exam)}]}}, "near_duplicates"],
        each={"a": {"confidence": 3}},
    )
    (passport,) = trace(built.out, "b@b.jsonl:1")
    (kept,) = built.rows()
    assert [(each["id"], "old stone bridge" in each["content"]) for each in passport["kept_instead"]] == [
        (kept["id"], True)
    ]
    assert [each["place"] for each in passport["dropped_alike"]] == ["c.jsonl:1"]
    assert passport["dropped_alike"][0]["evidence"].startswith("Jaccard 0.")
    assert "kept instead:" in told(passport) and "dropped as well:" in told(passport)
    (leak,) = trace(built.out, "a@a.jsonl:2")
    assert leak["decisions"][-1]["decision"].startswith(
        "dropped: leaks exam (exam.jsonl:1, whole item 1.00: Which metal"
    )
    assert leak["kept_instead"] == [] and [each["place"] for each in leak["dropped_alike"]] == ["a.jsonl:3"]


def test_a_row_that_was_never_made_is_found_by_its_place(build, chat) -> None:
    built = build({"a": [chat("1"), chat("2", "")]})
    (passport,) = trace(built.out, "a@a.jsonl:2")
    assert told(passport) == "a@a.jsonl:2: dropped by load: empty completion (messages)"


def test_an_unknown_row_or_folder_is_an_error_that_helps(build, chat, tmp_path) -> None:
    built = build({"a": [chat("1")]})
    with pytest.raises(RunError, match="has no row 'x'"):
        trace(built.out, "x")
    with pytest.raises(RunError, match="not a curated dataset"):
        trace(tmp_path, "x")


def test_a_comparison_says_which_rows_went_and_why(build, chat) -> None:
    before = build({"a": [chat("1"), chat("2")], "b": [chat("3")]}, out="before")
    after = build({"a": [chat("1"), chat("4")], "b": [chat("1", "No."), chat("3")]}, out="after", seed=7,
                  each={"b": {"confidence": 3}})  # fmt: skip
    found = diff(before.out, after.out)
    assert found["rows"] == {"before": 3, "after": 3, "gone": 2, "come": 2}
    assert {(each["source"], each["reason"]) for each in found["gone"]} == {
        ("a", "dropped by exact: copy"),
        ("a", "not in the sources any more"),
    }
    assert {(each["source"], each["reason"]) for each in found["come"]} == {
        ("a", "new in the sources"),
        ("b", "new in the sources"),
    }
    assert found["recipe"] == {"seed": (42, 7), "sources[1].confidence": (None, 3)}
    assert "seed: 42 → 7" in told_diff(found)
