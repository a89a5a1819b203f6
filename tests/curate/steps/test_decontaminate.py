"""Decontamination as a step: its keys, every row judged, every match told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from poise.curate.steps.decontaminate import Decontaminate
from poise.examples import Conversation, Message

ROLLS = (
    "A baker fills 24 trays with rolls every morning, sells 310 of them before noon, and gives the rest to a shelter. "
    "How many rolls reach the shelter each week?"
)


def ask(question: str, answer: str = "Let me see.") -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer)))


@pytest.fixture
def bakery(tmp_path: Path) -> dict[str, str]:
    """A benchmark of one's own in a file."""
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"question": ROLLS}) + "\n" + json.dumps({"question": "Why?"}) + "\n")
    return {"name": "bakery", "path": str(path)}


def test_the_step_judges_by_the_benchmarks_of_its_keys(bakery: dict[str, str]) -> None:
    step = Decontaminate(benchmarks=[bakery])
    assert step.judge(ask(ROLLS)) is not None
    assert step.judge(ask("Hello")) is None
    assert Decontaminate(benchmarks=[bakery], allow=[ROLLS]).judge(ask(ROLLS)) is None


def test_the_last_of_1025_rows_is_judged_too(
    bakery: dict[str, str], build: Callable[..., Any], chat: Callable[..., Any], pair: Callable[..., Any]
) -> None:
    rows = [chat(f"Row number {number}") for number in range(1024)] + [chat(ROLLS)]
    built = build({"rows": rows, "pairs": [pair(ROLLS)]}, steps=[{"decontaminate": {"benchmarks": [bakery]}}])
    dropped = [row for row in built.ledger() if row["reason"]]
    assert {(row["place"], row["reason"]) for row in dropped} == {
        ("rows.jsonl:1025", "leaks bakery"),
        ("pairs.jsonl:1", "leaks bakery"),
    }
    assert all(row["evidence"].startswith("questions.jsonl:1, n-gram share 1.00: A baker") for row in dropped)
    stages = json.loads((built.out / "curation.json").read_text())["stages"]
    (facts,) = [stage["facts"]["bakery"] for stage in stages if stage["name"] == "decontaminate"]
    assert (facts["rows"], facts["leaked"], facts["too short"]) == (2, {"questions.jsonl:1": 2}, ["questions.jsonl:2"])


def test_a_benchmark_is_a_name_or_name_path_and_revision() -> None:
    step = Decontaminate(benchmarks=["gsm8k", {"name": "mmlu", "revision": "abc"}])
    assert [(each.name, each.path, each.revision) for each in step.benchmarks] == [
        ("gsm8k", None, None),
        ("mmlu", None, "abc"),
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"benchmarks": ["gsm8"]}, "there is no benchmark 'gsm8'; did you mean 'gsm8k'"),
        ({"benchmarks": ["mine"]}, "A set of your own needs `path`"),
        ({"benchmarks": ["gsm8k", "gsm8k"]}, "the benchmark 'gsm8k' is there twice"),
        ({"benchmarks": []}, "at least 1 item"),
        ({"benchmarks": ["gsm8k"], "share": 0}, "greater than 0"),
        ({"benchmarks": ["gsm8k"], "ngram": 7}, "greater than or equal to 8"),
        ({"benchmarks": ["gsm8k"], "threshold": 0.5}, "Extra inputs"),
    ],
)
def test_keys_that_make_no_sense_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Decontaminate(**keys)
