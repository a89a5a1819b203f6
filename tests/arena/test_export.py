"""Votes as pairs: the decisive ones, by most votes, split by prompt, nothing lost unsaid."""

import json
from pathlib import Path
from typing import Any

import pytest

from poise.arena.battles import battle, shown_again
from poise.arena.export import export, told
from poise.arena.store import Vote
from poise.errors import RunError
from poise.evaluate.answer import Answer
from poise.evaluate.questions import Question
from poise.examples import Message, PreferencePair
from poise.sources import SourceSpec, load


def vote(number: int, winner: str | None, verdict: Any = None, voter: str = "me", **answer: Any) -> Vote:
    question = answer.pop("question", None) or Question("q", "s", (Message("user", f"Task {number}"),))
    fought = battle(question, "a", "b", seed=0)
    verdict = verdict or ("left" if winner == fought.left else "right")
    said = {label: Answer(f"{label}{number}", 1, True, None) for label in ("a", "b")} | answer
    return Vote(fought, said[fought.left], said[fought.right], voter, verdict, 1.0)


def rows(folder: Path) -> list[dict[str, Any]]:
    files = (folder / "train.jsonl", folder / "test.jsonl")
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def test_decisive_votes_become_pairs_that_poise_reads(tmp_path: Path) -> None:
    votes = [vote(number, "a" if number % 3 else "b") for number in range(30)]
    found = export(votes, tmp_path, test=0.2, seed=0)
    assert found["votes"] == found["used"] == sum(found["pairs"].values()) == 30
    assert 0 < found["pairs"]["test"] < 15
    for split in ("train", "test"):
        loaded = load(SourceSpec(str(tmp_path), split=split), prefer=PreferencePair)
        assert (len(loaded.examples), loaded.drops) == (found["pairs"][split], [])
        for example in loaded.examples:
            assert isinstance(example, PreferencePair)
            number = int(example.prompt[0].content.split()[1])
            better, worse = ("a", "b") if number % 3 else ("b", "a")
            assert (example.chosen[0].content, example.rejected[0].content) == (f"{better}{number}", f"{worse}{number}")


def test_what_makes_no_pair_is_counted_with_its_reason(tmp_path: Path) -> None:
    cut, empty = Answer("a and", 1, False, None), Answer(" ", 0, True, None)
    text = Question("t", "s", text="Once upon")
    votes = [
        vote(0, "a"), vote(1, None, "tie"), vote(2, None, "both_bad"), vote(3, "a", a=cut), vote(4, "a", b=empty),
        vote(5, "b", a=cut), vote(6, "a", question=text), vote(7, "a", voter="me"), vote(7, "b", voter="you"),
    ]  # fmt: skip
    found = export(votes, tmp_path, test=0.0, seed=0)
    assert found["pairs"] == {"train": 2, "test": 0}
    assert found["left_out"] == {
        "tie": 1, "both bad": 1, "the better answer was cut off at the limit": 1, "an empty answer": 1,
        "a text to go on with, not a prompt": 1, "votes against each other": 2,
    }  # fmt: skip
    assert found["used"] + sum(found["left_out"].values()) == found["votes"] == 9
    assert "2 of 9 votes make 2 pairs to train on, 0 to test\n  left out: 1 tie\n" in told(found)


def test_most_votes_decide_and_one_prompt_is_one_pair(tmp_path: Path) -> None:
    first = vote(0, "a")
    other_side = shown_again(first.battle)
    again = Vote(other_side, first.right, first.left, "me", "left" if other_side.left == "a" else "right", 1.0)
    export([first, again, vote(0, "b", voter="you"), vote(0, None, "tie", voter="she")], tmp_path, test=0.5, seed=0)
    (row,) = rows(tmp_path)
    assert (row["chosen"][0]["content"], row["votes"], row["against"]) == ("a0", 2, 1)


def test_a_prompt_stays_in_its_split_when_votes_are_added(tmp_path: Path) -> None:
    votes = [vote(number, "a") for number in range(60)]
    export(votes[:40], tmp_path / "few", test=0.3, seed=0)
    export(votes, tmp_path / "all", test=0.3, seed=0)
    few, every = (set((tmp_path / name / "test.jsonl").read_text().splitlines()) for name in ("few", "all"))
    assert few < every


def test_votes_that_decide_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no vote makes a pair: 1 tie"):
        export([vote(0, None, "tie")], tmp_path, test=0.1, seed=0)
    with pytest.raises(RunError, match=r"1 the better answer was cut off at the limit\n.*larger --max-new-tokens"):
        export([vote(0, "a", a=Answer("a and", 1, False, None))], tmp_path, test=0.1, seed=0)
    assert list(tmp_path.iterdir()) == []
