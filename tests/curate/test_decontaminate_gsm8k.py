"""Acceptance on GSM8K: what is planted into its training split is found, and nothing else is dropped."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.curate.benchmarks import load_benchmark
from poise.curate.leaks import Leaks
from poise.curate.matcher import Matcher
from poise.examples import Conversation, Example, Message, PreferencePair

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "gsm8k"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"GSM8K is not at {FOLDER}")


def questions(split: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def conversation(row: dict[str, str], question: str | None = None) -> Conversation:
    return Conversation((Message("user", question or row["question"]), Message("assistant", row["answer"])))


def planted(chance: random.Random) -> Iterator[tuple[int, Example]]:
    """Yield (number of the test question from 1, training row that holds it)."""
    test, train = list(enumerate(questions("test"), start=1)), questions("train")
    chosen = chance.sample(test, 600)
    hosts = chance.sample(train, 600)
    for place, ((number, item), host) in enumerate(zip(chosen, hosts, strict=True)):
        question = item["question"]
        if place < 200:
            yield number, conversation(host, f"{host['question']}\n\n{question}")
        elif place < 400:
            changed = "".join(letter.upper() if chance.random() < 0.5 else letter.lower() for letter in question)
            yield number, conversation(host, changed.replace(" ", chance.choice(["  ", "\n", "\t "])))
        else:
            turns = (Message("user", host["question"]), Message("assistant", host["answer"]), Message("user", question))
            yield number, PreferencePair(turns, (Message("assistant", "Yes"),), (Message("assistant", "No"),))


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    """The test split, indexed."""
    return Matcher(load_benchmark("gsm8k", FOLDER / "test.jsonl"))


def test_every_planted_question_is_found_and_named(matcher: Matcher) -> None:
    report = Leaks(matcher.states)
    rows = list(planted(random.Random(3)))
    for number, row in rows:
        matches = matcher.matches(row)
        assert f"test.jsonl:{number}" in {match.item for match in matches}, row
        report.add(row.id, matches)
    facts = report.facts()["gsm8k"]
    assert facts["rows"] == len(rows) == 600
    assert {f"test.jsonl:{number}" for number, _ in rows} <= set(facts["leaked"])
    assert len(facts["samples"]) == 5


def test_no_untouched_training_question_is_dropped(matcher: Matcher) -> None:
    rows = random.Random(4).sample(questions("train"), 1000)
    assert [matcher.judge(conversation(row)) for row in rows] == [None] * 1000


def test_every_test_question_can_be_looked_for(matcher: Matcher) -> None:
    states = set(matcher.states["gsm8k"].values())
    assert len(matcher.states["gsm8k"]) == 1319
    assert states <= {"n-gram share", "whole item"}
