"""Curation accounts for every row, decides the same in any order, and makes nothing twice."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from poise.curate import load as loading
from poise.curate.curation import Curation
from poise.curate.pipeline import curate
from poise.errors import DataError
from poise.examples import Conversation, PreferencePair
from poise.sources import SourceSpec, load


def test_every_row_is_written_or_in_the_ledger(build, chat) -> None:
    built = build({"a": [chat("1"), chat("2"), chat("1", "No.")], "b": [chat("2"), chat("3")]})
    assert (built.counts["in"], built.counts["used"]) == (5, 3)
    assert len(built.rows()) + len(built.ledger()) == 5
    assert built.counts["by_source"]["b"] == {"in": 2, "made": 2, "used": 1, "dropped": {"exact: copy": 1}}
    assert [(drop["stage"], drop["source"], drop["reason"]) for drop in built.ledger()] == [
        ("exact", "a", "copy"),
        ("exact", "b", "copy"),
    ]
    kept = {row["id"] for row in built.rows()}
    assert {drop["other"] for drop in built.ledger()} <= kept
    assert not {drop["id"] for drop in built.ledger()} & kept


def test_rows_that_teach_nothing_are_in_the_ledger_with_their_place(build, chat) -> None:
    built = build({"a": [chat("1"), chat("2", "")]})
    (drop,) = built.ledger()
    assert (drop["stage"], drop["source"], drop["place"], drop["reason"]) == (
        "load",
        "a",
        "a.jsonl:2",
        "empty completion",
    )


def test_the_most_trusted_source_wins_and_then_the_first(build, chat) -> None:
    rows = {name: [chat("same", name), chat(f"only {name}")] for name in ("a", "b", "c")}
    trusted = build(rows, each={"b": {"confidence": 3}})
    assert [row["source"] for row in trusted.rows() if row["messages"][0]["content"] == "same"] == ["b"]
    first = build(rows, out="equal")
    assert [row["source"] for row in first.rows() if row["messages"][0]["content"] == "same"] == ["a"]


def test_a_question_is_its_system_prompt_and_all_user_turns(build, chat) -> None:
    longer = {"messages": [*chat("1")["messages"], *chat("2")["messages"]]}
    rows = [
        chat("1"),
        chat("1", system="Be brief."),
        longer,
        chat(" 1 ", "No."),
        chat("1", "Other.", system="be  BRIEF."),
    ]
    built = build({"a": rows})
    assert len(built.rows()) == 3
    assert {drop["place"] for drop in built.ledger()} <= {"a.jsonl:1", "a.jsonl:2", "a.jsonl:4", "a.jsonl:5"}


def test_case_can_matter(build, chat) -> None:
    rows = [chat("What does a print?"), chat("What does A print?")]
    assert len(build({"code": rows}).rows()) == 1
    assert len(build({"code": rows}, out="cased", each={"code": {"case_matters": True}}).rows()) == 2


def test_questions_without_a_letter_or_digit_are_not_one_cluster(build, chat) -> None:
    assert len(build({"a": [chat("?"), chat("!", "No."), chat("…")]}).rows()) == 3


def test_a_conversation_and_a_pair_of_one_question_are_both_kept_and_joined(build, chat, pair) -> None:
    built = build({"chats": [chat("1"), chat("2")], "pairs": [pair("1"), pair("3")]})
    assert len(built.rows("conversation")) == len(built.rows("preference_pair")) == 2
    assert {row["question"] for row in built.rows()} & {row["question"] for row in built.rows("preference_pair")}


@pytest.mark.parametrize(("key", "kept"), [("questions", 1), ("row", 2), ("bagel", 2)])
def test_what_counts_as_a_copy_is_said(build, chat, key: str, kept: int) -> None:
    """To the letter, `a` and `A ` differ; with the answers too, so do two answers to one question."""
    rows = [chat("a"), chat("a"), chat("A ")]
    assert len(build({"a": rows}, steps=[{"exact": {"key": key}}]).rows()) == kept


def test_bagels_key_does_not_see_the_system_prompt(build, chat) -> None:
    rows = [chat("a"), chat("a", system="Be brief.")]
    assert len(build({"a": rows}, steps=[{"exact": {"key": "bagel"}}]).rows()) == 1


def test_kept_ids_are_the_same_in_any_order_and_in_any_number_of_files(
    build, chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    rows = [chat(f"question {draw.randrange(60)}", f"answer {draw.randrange(4)}") for _ in range(200)]
    kept: list[set[str]] = []
    for turn, size in enumerate((1000, 7, 64)):
        monkeypatch.setattr(loading, "ROWS_PER_FILE", size)
        draw.shuffle(rows)
        kept.append(build({"a": rows}, out=str(turn)).ids())
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == len({row["messages"][0]["content"] for row in rows})


def test_equal_builds_have_equal_bytes(build, chat) -> None:
    rows = {"a": [chat(str(number % 30)) for number in range(50)]}
    keys: dict[str, Any] = {"split": {"test": 0.2}, "each": {"a": {"repeat": 1.5}}}
    assert build(rows, **keys).files() == build(rows, out="again", **keys).files()


def test_a_stage_that_is_unchanged_is_not_made_again(build, chat) -> None:
    rows = {"a": [chat("1"), chat("2")], "b": [chat("2")]}
    build(rows)
    again = build(rows)
    stages = _stages(again.out)
    assert all(stages.values())
    other = build({**rows, "b": [chat("4")]})
    assert _stages(other.out) == {"load-a": True, "load-b": False, "exact": False, "write": False}
    assert sorted(other.questions()) == ["1", "2", "4"]


def test_changing_a_step_leaves_what_comes_before_it(build, chat) -> None:
    rows = {"a": [chat("1"), chat("1", "No.")]}
    assert len(build(rows).rows()) == 1
    built = build(rows, steps=[{"exact": {"key": "row"}}])
    assert _stages(built.out) == {"load-a": True, "exact": False, "write": False}
    assert len(built.rows()) == 2


def test_files_of_an_earlier_build_are_gone(build, chat, pair) -> None:
    build({"a": [chat("1")], "b": [pair("2")]})
    built = build({"a": [chat("1")]})
    assert built.rows("preference_pair") == []


def test_no_question_is_on_both_sides_of_a_split(build, chat, pair) -> None:
    rows = {
        "a": [chat(str(number % 40), f"answer {number}") for number in range(80)],
        "b": [pair(str(number % 40), f"good {number}") for number in range(80)],
    }
    built = build(rows, steps=[{"exact": {"key": "row"}}], split={"test": 0.25}, each={"a": {"repeat": 3}})
    sides = [
        {row["question"] for kind in ("conversation", "preference_pair") for row in built.rows(kind, side)}
        for side in ("train", "test")
    ]
    assert len(sides[0]) == 30 and len(sides[1]) == 10 and not sides[0] & sides[1]


def test_a_source_can_be_sampled_and_repeated(build, chat) -> None:
    rows = {"a": [chat(f"a{number}") for number in range(40)], "b": [chat(f"b{number}") for number in range(10)]}
    built = build(rows, each={"a": {"count": 8}, "b": {"repeat": 2.5}})
    assert built.counts["by_source"]["a"] == {"in": 40, "made": 40, "used": 8, "dropped": {"sample: not sampled": 32}}
    sources = [row["source"] for row in built.rows()]
    assert sources.count("a") == 8
    times = [built.questions().count(f"b{number}") for number in range(10)]
    assert set(times) == {2, 3} and sum(times) == 25


def test_adding_a_source_does_not_reshuffle_the_sample_of_another(build, chat) -> None:
    rows = {"a": [chat(f"a{number}") for number in range(40)]}
    alone = build(rows, each={"a": {"fraction": 0.5}}).ids()
    beside = build({**rows, "b": [chat("b")]}, out="more", each={"a": {"fraction": 0.5}}).ids()
    assert alone == {row_id for row_id in beside if row_id.startswith("a:")} and len(alone) == 20


def test_a_catalog_source_is_read_from_a_local_copy(tmp_path: Path) -> None:
    row = {"question": "is the sky blue", "answer": True, "passage": "The sky is blue."}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    curation = Curation(out=str(tmp_path / "out"), sources=[{"source": "boolq", "path": str(tmp_path / "train.jsonl")}])
    assert curate(curation)["by_source"] == {"boolq": {"in": 1, "made": 1, "used": 1, "dropped": {}}}


def test_a_row_that_does_not_fit_stops_the_build_and_is_named(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "yes", "passage": "p"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    entry = {"source": "boolq", "path": str(tmp_path / "rows.jsonl")}
    with pytest.raises(DataError, match=r"source boolq: 1 row.*\nrows.jsonl:1 answer: text where true or false"):
        curate(Curation(out=str(tmp_path / "out"), sources=[entry]))
    with pytest.raises(DataError, match="no source gave a row"):
        curate(Curation(out=str(tmp_path / "out"), sources=[{**entry, "on_bad_row": "drop"}]))


def test_a_curated_folder_is_read_with_its_lineage(build, chat, pair) -> None:
    built = build({"chats": [chat("1")], "pairs": [pair("1")]}, split=None)
    (conversation,) = load(SourceSpec(str(built.out)), prefer=Conversation).examples
    (preference,) = load(SourceSpec(str(built.out)), prefer=PreferencePair).examples
    assert isinstance(conversation, Conversation) and isinstance(preference, PreferencePair)
    assert conversation.source == "chats"
    assert conversation.lineage == ("out/conversation/train-00000.parquet:1", "chats.jsonl:1")


def _stages(out: Path) -> dict[str, bool]:
    manifest = json.loads((out / "curation.json").read_text())
    return {stage["name"]: stage["reused"] for stage in manifest["stages"]}


def test_a_benchmark_that_has_changed_is_looked_for_anew(build, chat, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    steps = [{"decontaminate": {"benchmarks": [{"name": "mine", "path": str(questions)}]}}]
    rows = {"a": [chat("How many legs has a spider?"), chat("How many legs has a beetle?")]}
    for animal, other in (("spider", "beetle"), ("beetle", "spider")):
        questions.write_text(json.dumps({"prompt": f"How many legs has a {animal}?"}) + "\n")
        assert build(rows, steps=steps).questions() == [f"How many legs has a {other}?"]


def test_a_wanted_and_an_unwanted_answer_to_one_question_are_both_kept(build, chat) -> None:
    rows = [
        chat("1", "Good.") | {"label": True},
        chat("1", "Bad.") | {"label": False},
        chat("1", "Well.") | {"label": True},
    ]
    built = build({"kto": rows}, steps=["exact", "near_duplicates"])
    assert sorted(row["label"] for row in built.rows("labeled_conversation")) == [False, True]


def test_a_published_test_split_is_held_out_whole_and_none_of_its_questions_is_trained(build, chat, pair) -> None:
    rows = {
        "train": [chat("1"), chat("2"), chat("3", "Train.")],
        "pairs": [pair("3"), pair("4")],
        "test": [chat("3", "Test."), chat("5")],
    }
    each = {"train": {"confidence": 3}, "test": {"held_out": True}}
    built = build(rows, each=each)
    assert sorted(built.questions()) == ["1", "2"] and sorted(built.questions(split="test")) == ["3", "5"]
    assert {row["messages"][1]["content"] for row in built.rows(split="test")} == {"Test.", "Yes."}
    assert [row["prompt"][0]["content"] for row in built.rows("preference_pair")] == ["4"]
    assert sorted((drop["source"], drop["reason"]) for drop in built.ledger()) == [
        ("pairs", "asks a held-out question"),
        ("train", "copy"),
    ]


def test_every_step_that_reads_the_rows_and_the_write_show_how_far_they_are(
    build, chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("rows", "write"):
        monkeypatch.setattr(f"poise.curate.{module}.QUIET_SECONDS", 0.0)
    exam = tmp_path / "exam.jsonl"
    exam.write_text(json.dumps({"prompt": "How many legs has a spider?"}) + "\n")
    own = {"decontaminate": {"benchmarks": [{"name": "exam", "path": str(exam)}]}}
    rows = [chat("Why is the sky blue?", "Air scatters it."), chat("Why do cats purr?", "They are content.")]
    build({"a": rows}, steps=["quality", {"exact": {"key": "row"}}, "near_duplicates", own])
    told = [line.split() for line in capsys.readouterr().err.splitlines() if line.startswith("stage=")]
    names = ("quality", "exact", "near_duplicates", "decontaminate", "write")
    assert [" ".join(words[:2]) for words in told if words[0] not in ("stage=sign", "stage=compare_pairs")] == [
        f"stage={name} done=2/2" for name in names
    ]


def test_the_manifest_names_the_files_that_were_read(build, chat) -> None:
    built = build({"a": [chat("1")]})
    (load_stage, *_) = json.loads((built.out / "curation.json").read_text())["stages"]
    assert list(load_stage["files"]["path"]) == ["a.jsonl"] and len(load_stage["files"]["path"]["a.jsonl"]) == 64
