"""Curation drops copies and leaks, keeps the rest as it was, and accounts for every row."""

import json
from pathlib import Path
from typing import Any

import pytest

from poise.curate.decontaminate import Leaks
from poise.curate.deduplicate import Copies
from poise.curate.pipeline import curate
from poise.errors import DataError
from poise.examples import Conversation, Document, LabeledConversation, Message, PreferencePair
from poise.run import Run
from poise.sources import SourceSpec, load


def chat(question: str, answer: str = "Yes.") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def kept(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]


def test_the_first_of_equal_rows_is_kept_and_the_others_name_it(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.jsonl", chat("a"), chat("b"), chat("a"), chat("a", "No."), chat("a"))
    counts = curate(raw, tmp_path / "out")
    assert kept(tmp_path / "out") == [chat("a"), chat("b"), chat("a", "No.")]
    assert counts["dropped"] == {"copy": 2}
    drops = [json.loads(line) for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    assert [(drop["place"], drop["evidence"]) for drop in drops] == [
        ("raw.jsonl:3", "same as raw.jsonl:1"),
        ("raw.jsonl:5", "same as raw.jsonl:1"),
    ]


def test_copies_are_found_where_no_row_has_a_place() -> None:
    copies = Copies()
    assert copies.judge(Document("a")) is None
    assert copies.judge(Document("a")) is not None
    assert copies.judge(Document("b")) is None


@pytest.mark.parametrize("told", ["What is  2 + 2?", "WHAT IS 2 + 2?", " what\tis\n2 + 2? ", "What is 2 + 2?"])
def test_a_leak_is_found_whatever_its_case_and_spacing(told: str) -> None:
    leaks = Leaks(["What is 2 + 2?"])
    ask, reply = Message("user", told), Message("assistant", "4")
    for example in (
        Document(told),
        Conversation((Message("user", "Hi"), reply, ask, reply)),
        PreferencePair((ask,), (reply,), (Message("assistant", "5"),)),
        LabeledConversation((ask, reply), desirable=True),
    ):
        reason = leaks.judge(example)
        assert reason is not None
        assert reason.phrase == "holds a test question"
        assert reason.evidence == told


def test_what_only_resembles_a_question_is_kept() -> None:
    leaks = Leaks(["What is 2 + 2?", "", "  "])
    assert leaks.judge(Document("What is 2 + 2? It is 4.")) is None
    assert leaks.judge(Document("")) is None
    assert leaks.judge(Conversation((Message("user", "Hi"), Message("assistant", "What is 2 + 2?")))) is None


@pytest.mark.parametrize(
    "question",
    [
        {"prompt": "Secret?"},
        {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "SECRET?"}]},
        {"text": "secret?"},
    ],
)
def test_every_form_of_a_question_keeps_its_rows_out(question: dict[str, Any], tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.jsonl", chat("secret?"), chat("open"), chat("Be kind."))
    counts = curate(raw, tmp_path / "out", test=write(tmp_path / "questions.jsonl", question))
    assert kept(tmp_path / "out") == [chat("open"), chat("Be kind.")]
    assert counts["dropped"] == {"holds a test question": 1}


def test_a_question_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.jsonl", chat("a"))
    with pytest.raises(DataError, match="there is no question file"):
        curate(raw, tmp_path / "out", test=tmp_path / "questions.jsonl")
    assert not (tmp_path / "out").exists()


def test_every_row_is_kept_or_in_the_ledger(tmp_path: Path) -> None:
    raw = write(
        tmp_path / "raw.jsonl", chat("a"), chat("a"), chat("b", " "), {"messages": 7}, chat("secret?"), chat("c")
    )
    counts = curate(raw, tmp_path / "out", test=write(tmp_path / "questions.jsonl", {"prompt": "secret?"}))
    assert counts["in"] == 6
    assert counts["used"] == len(kept(tmp_path / "out")) == 2
    assert counts["in"] == counts["used"] + sum(counts["dropped"].values())
    assert Run(tmp_path / "out").ledger() == counts


@pytest.mark.parametrize(
    "row",
    [
        {"text": "plain"},
        chat("a"),
        {"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}],
         "rejected": [{"role": "assistant", "content": "c"}]},
        {"messages": chat("a")["messages"], "label": False},
    ],
)  # fmt: skip
def test_what_is_written_is_read_as_the_same_examples(row: dict[str, Any], tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.jsonl", row)
    curate(raw, tmp_path / "out")
    before, after = (load(SourceSpec(str(path))).examples for path in (raw, tmp_path / "out" / "data.jsonl"))
    assert [example.id for example in before] == [example.id for example in after]


def test_curating_again_changes_nothing(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.jsonl", chat("a"), chat("b"), chat("a"))
    curate(raw, tmp_path / "one")
    curate(tmp_path / "one" / "data.jsonl", tmp_path / "two")
    assert (tmp_path / "one" / "data.jsonl").read_bytes() == (tmp_path / "two" / "data.jsonl").read_bytes()
