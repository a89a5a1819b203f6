"""Drops as curation made them."""

import re

from poise.look.look import look


def test_drops_stand_in_the_order_of_the_stages(curated, chat) -> None:
    ledger = [("tokens", "too long"), ("exact", "copy"), ("load", "empty completion"), ("tokens", "too short")]
    ledger += [("tokens", "too short"), ("exact", "copy"), ("exact", "copy")]
    drops = [{"id": f"a:{number}", "stage": stage, "reason": reason} for number, (stage, reason) in enumerate(ledger)]
    folder = curated({("conversation", "train"): [chat("a:9", "q", "r")]}, drops)
    facts = look(folder)
    assert [(each["stage"], each["reason"], each["rows"]) for each in facts["dropped"]] == [
        ("load", "empty completion", 1),
        ("exact", "copy", 3),
        ("tokens", "too short", 2),
        ("tokens", "too long", 1),
    ]
    assert re.findall(r'<rect width="([\d.]+)" height="8"', (folder / "look.html").read_text()) == [
        "33.3",
        "100.0",
        "66.7",
        "33.3",
    ]
    assert facts["counts"] == {"in": 8, "made": 8, "used": 1, "by_source": {}}
