"""What the last page shows of votes: a strip for every two models, tables, doubts, and every vote with its names."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from poise.arena.store import Vote
from poise.arena.tally import CLEAR_P, tally, what_would_show


def ending(votes: Sequence[Vote]) -> dict[str, Any]:
    """Return what the last page shows."""
    if not votes:
        return {"pairs": [], "tables": [], "notes": [], "votes": []}
    result = asdict(tally(votes))
    rates, *others = result["tables"]
    pairs = [
        _pair(line["estimate"], test) for line, test in zip(rates["lines"], result["figures"]["pairs"], strict=True)
    ]
    tables = [
        {**table, "lines": [_line(line) for line in table["lines"]]}
        for table in others
        if len(pairs) > 1 or not table["title"].startswith("Rating")
    ]
    return {"pairs": pairs, "tables": tables, "notes": result["notes"][len(pairs) :], "votes": [*map(_ballot, votes)]}


def _pair(estimate: dict[str, Any], test: dict[str, Any]) -> dict[str, Any]:
    """Return one pair as the page writes it; positions are of a strip 100 wide."""
    p = f"(p = {test['adjusted_p']:.2g})"
    return {
        **test,
        "n": estimate["n"],
        "percent": f"{estimate['value']:.0f}\u00a0%",
        "interval": f"{estimate['low']:.0f} to {estimate['high']:.0f}\u00a0%",
        "low": f"{estimate['low']:.1f}",
        "width": f"{max(0.5, estimate['high'] - estimate['low']):.1f}",
        "dot": f"{0.988 * estimate['value']:.1f}",
        "verdict": f"{test['first']} is better {p}" if test["adjusted_p"] < CLEAR_P else f"may be chance {p}",
        "would_show": "" if test["adjusted_p"] < CLEAR_P else what_would_show(test).removeprefix("; "),
        "counts": f"{test['wins']} won, {test['losses']} lost, {test['ties']} tied, {test['both_bad']} both bad",
    }


def _line(line: dict[str, Any]) -> dict[str, Any]:
    estimate = line["estimate"]
    return {
        "name": line["name"],
        "value": f"{estimate['value']:.0f}".replace("-", "−"),
        "interval": f"{estimate['low']:.0f} to {estimate['high']:.0f}".replace("-", "−"),
        "n": estimate["n"],
    }


def _ballot(vote: Vote) -> dict[str, Any]:
    asked = vote.battle.question.prompt[-1].content if vote.battle.question.prompt else vote.battle.question.text
    verdicts = {"tie": "a tie", "both_bad": "both bad"}
    return {
        "verdict": f"{vote.winner} won" if vote.winner else verdicts[vote.verdict],
        "asked": asked,
        "answers": [(vote.battle.left, vote.left.text), (vote.battle.right, vote.right.text)],
    }
