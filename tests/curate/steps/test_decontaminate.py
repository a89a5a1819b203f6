"""Decontamination as a step: its keys, every row judged, every match told."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from poise.curate.encoder import Encoder
from poise.curate.engine import Engine
from poise.curate.rows import DROPS, ROWS, Rows, row_of
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
        ({"benchmarks": ["gsm8k"], "cosine": 0.5}, "Extra inputs"),
        ({"benchmarks": ["gsm8k"], "threshold": 0.5}, "threshold is about vectors, and there is no `model`"),
        ({"benchmarks": ["gsm8k"], "model": "m"}, "a model needs its threshold"),
    ],
)
def test_keys_that_make_no_sense_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Decontaminate(**keys)


def test_with_a_model_what_is_reworded_is_dropped_too_and_told_beside_the_rest(
    bakery: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POISE_CACHE", str(tmp_path / "cache"))
    words = ROLLS.split()
    turned = " ".join([*words[22:], *words[10:22], *words[:10]])  # 30 words in three pieces: 5 of 18 13-grams at most
    examples = {"copy": ask(ROLLS), "turned": ask(turned), "other": ask("What is the capital of Peru?")}
    stored = [
        row_of(example, name, Counter(), confidence=2, order=0, stratum=None, case_matters=False)
        for name, example in examples.items()
    ]
    pq.write_table(pa.Table.from_pylist(stored, schema=ROWS), tmp_path / "rows.parquet")
    rows = Rows(Engine(), [tmp_path / "rows.parquet"], DROPS.empty_table().select(["id"]), len(stored))

    def letters(texts: list[str]) -> np.ndarray:
        return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], np.float32)

    step = Decontaminate(benchmarks=[bakery], model="letters", threshold=0.999)
    decisions = step.decided(rows, Encoder(letters, {"model": "letters", "dtype": "float32"}))
    told = {row["id"].partition(":")[0]: row["evidence"].partition(":")[2] for row in decisions.drops.to_pylist()}
    assert told.keys() == {"copy", "turned"}
    assert told["copy"].startswith("1, n-gram share 1.00") and told["turned"].startswith("1, cosine 1.00")
    assert decisions.facts["bakery"]["rows"] == 2
    assert decisions.facts["bakery"]["vectors"] == {
        "threshold": 0.999, "guard": True, "model": "letters", "dtype": "float32",
    }  # fmt: skip
    assert len(Decontaminate(benchmarks=[bakery]).decide(rows).drops) == 1
