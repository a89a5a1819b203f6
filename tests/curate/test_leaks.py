"""What leaked is counted by benchmark, with samples side by side."""

import json
from collections.abc import Iterable
from typing import Any

from poise.curate.benchmarks import Item
from poise.curate.leaks import Leaks
from poise.curate.matcher import Matcher, words_of
from poise.examples import Conversation, Example, Message

# 30 words, so 18 13-grams
ROLLS = (
    "A baker fills 24 trays with rolls every morning, sells 310 of them before noon, and gives the rest to a shelter. "
    "How many rolls reach the shelter each week?"
)
ITEM = Item("bakery", "7", (ROLLS,))
TEN_WORDS = "Which metal stays liquid at the temperature of a room?"


def ask(question: str, answer: str = "Let me see.") -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer)))


def reported(matcher: Matcher, rows: Iterable[tuple[str, Example]]) -> dict[str, Any]:
    leaks = Leaks(matcher.states)
    for name, row in rows:
        if matches := matcher.matches(row):
            leaks.add(name, matches)
    return leaks.facts()


def test_the_report_counts_rows_and_names_items_and_samples() -> None:
    matcher = Matcher([ITEM, Item("metals", "1", (TEN_WORDS,)), Item("metals", "2", ("Iron?",))])
    rows = [("a", ask(ROLLS)), ("b", ask(f"{TEN_WORDS} {ROLLS}")), ("c", ask("Hello"))]
    facts = reported(matcher, rows)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["bakery"] == {
        "items": 1,
        "looked for": {"n-gram share": 1},
        "too short": [],
        "rows": 2,
        "leaked": {"7": 2},
        "samples": [
            {"row": name, "item": "7", "seen": " ".join(words_of(ROLLS)), "text": ROLLS} for name in ("a", "b")
        ],
    }
    assert facts["metals"]["too short"] == ["2"]
    assert facts["metals"]["looked for"] == {"too short": 1, "whole item": 1}
    assert (facts["metals"]["rows"], facts["metals"]["leaked"]) == (1, {"1": 1})


def test_the_report_is_the_same_for_any_order_of_the_rows() -> None:
    matcher = Matcher([ITEM])
    rows = [(f"row{number:02d}", ask(f"{ROLLS} {number}")) for number in range(20)]
    facts = reported(matcher, rows)
    assert reported(matcher, rows[::-1]) == facts
    assert [sample["row"] for sample in facts["bakery"]["samples"]] == [f"row{number:02d}" for number in range(5)]
    assert facts["bakery"]["rows"] == 20
