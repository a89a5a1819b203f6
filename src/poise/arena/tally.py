"""The tally: votes as win rates, ratings and what should make one doubt them, in the form of an evaluation."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from statistics import median
from typing import Any

from poise.arena.contestants import key_of
from poise.arena.store import Vote
from poise.evaluate import ratings as bradley_terry
from poise.evaluate.result import Line, Result, Table
from poise.evaluate.statistics import Estimate, holm, mcnemar, share, sign_flip, win_rate

CLEAR_P = 0.05
HASTY_S = 1.5
"""Half of the votes within this many seconds of seeing two answers: hardly read."""
COMMON = frozenset({"base", "model", "chat", "instruct", "merged", "after", "before", "final", "adapter", "lora"})
"""Words of labels that are no names."""


def tally(votes: Sequence[Vote]) -> Result:
    """Count votes: two models by their win rate first, several by ratings too."""
    labels = sorted({label for vote in votes for label in (vote.battle.left, vote.battle.right)})
    pairs = [(pair, of_pair) for pair in combinations(labels, 2) if (of_pair := _between(votes, *pair))]
    leading = [pair if _rate(of_pair, pair[0]).value >= 0.5 else (pair[1], pair[0]) for pair, of_pair in pairs]
    rates = [
        Line(f"{first} against {second}", _rate(of_pair, first).scaled(100))
        for (first, second), (_, of_pair) in zip(leading, pairs, strict=True)
    ]
    tests = [_test(first, second, of_pair) for (first, second), (_, of_pair) in zip(leading, pairs, strict=True)]
    for test, adjusted in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["adjusted_p"] = adjusted
    rated = bradley_terry.ratings([_compared(vote) for vote in votes])
    tables = [Table("Win rate, a tie half a win", "percent", rates)]
    if len(bradley_terry.parts([_compared(vote) for vote in votes])) == 1:
        tables.append(Table("Rating, 0 the mean", "points", [Line(label, rating) for label, rating in rated.items()]))
    return Result(
        kind="arena",
        model=" against ".join(leading[0] if len(pairs) == 1 else labels),
        tables=[*tables, Table("Votes", "percent", _votes(votes)), *_voters(votes)],
        items=[],
        notes=[*(_told_test(test, len(tests)) for test in tests), *_doubts(votes)],
        settings={"voters": sorted({vote.voter for vote in votes})},
        figures={"votes": len(votes), "pairs": tests, "ranks": ranks(rated)},
    )


def ranks(rated: dict[str, Estimate]) -> dict[str, int]:
    """Rank models by intervals: one more than how many are surely better."""
    return {label: 1 + sum(other.low > rating.high for other in rated.values()) for label, rating in rated.items()}


def _between(votes: Sequence[Vote], one: str, other: str) -> list[Vote]:
    return [vote for vote in votes if {vote.battle.left, vote.battle.right} == {one, other}]


def _score(vote: Vote, label: str) -> float:
    """Return 1 for a win, 0.5 for a tie or two bad answers, 0 for a loss."""
    return 0.5 if vote.winner is None else float(vote.winner == label)


def _rate(votes: Sequence[Vote], label: str) -> Estimate:
    return win_rate([_score(vote, label) for vote in votes], _prompts(votes))


def _prompts(votes: Sequence[Vote]) -> list[str]:
    """Votes on one prompt are one cluster: several voters, or a battle shown again."""
    return [key_of(vote.battle.question) for vote in votes]


def _compared(vote: Vote) -> bradley_terry.Vote:
    first, second = sorted((vote.battle.left, vote.battle.right))
    return bradley_terry.Vote(first, second, _score(vote, first), key_of(vote.battle.question))


def _test(first: str, second: str, votes: Sequence[Vote]) -> dict[str, Any]:
    """Test whether both are equally good: a fair coin over the decisive votes, or over prompts that have several."""
    wins = Counter(vote.winner for vote in votes)
    scores, clusters = [_score(vote, first) for vote in votes], _prompts(votes)
    even = [0.5] * len(scores)
    alone = len(set(clusters)) == len(clusters)
    return {
        "first": first,
        "second": second,
        "wins": wins[first],
        "losses": wins[second],
        "ties": sum(vote.verdict == "tie" for vote in votes),
        "both_bad": sum(vote.verdict == "both_bad" for vote in votes),
        "test": "exact sign test" if alone else "sign flips over prompts",
        "p": mcnemar(even, scores) if alone else sign_flip(even, scores, clusters),
    }


def _told_test(test: dict[str, Any], pairs: int) -> str:
    sure = "a clear difference" if test["adjusted_p"] < CLEAR_P else "may be chance"
    together = f", {test['adjusted_p']:.3g} after Holm over {pairs}" if pairs > 1 else ""
    return (
        f"{test['first']} won {test['wins']}, {test['second']} {test['losses']}, {test['ties']} tied, "
        f"{test['both_bad']} both bad; p = {test['p']:.3g} ({test['test']}){together}: {sure}"
    )


def _votes(votes: Sequence[Vote]) -> list[Line]:
    told = {"decided": ("left", "right"), "tie": ("tie",), "both bad": ("both_bad",)}
    return [Line(name, _share([vote.verdict in verdicts for vote in votes], votes)) for name, verdicts in told.items()]


def _voters(votes: Sequence[Vote]) -> list[Table]:
    """Return how much the place decided, and how often a verdict held when the sides were changed."""
    decisive = [vote for vote in votes if vote.winner is not None]
    lines: list[Line] = []
    if decisive:
        lines.append(Line("left answer preferred", _share([vote.verdict == "left" for vote in decisive], decisive)))
    held = _held(votes)
    if held:
        lines.append(Line("same verdict when shown again", share(sum(held), len(held)).scaled(100)))
    return [Table("Voters", "percent", lines)] if lines else []


def _held(votes: Sequence[Vote]) -> list[bool]:
    first = {(vote.voter, *_meeting(vote)): vote.winner for vote in votes if not vote.battle.again}
    repeats = [(vote.winner, (vote.voter, *_meeting(vote))) for vote in votes if vote.battle.again]
    return [first[key] == winner for winner, key in repeats if key in first]


def _meeting(vote: Vote) -> tuple[str, str, str]:
    one, other = sorted((vote.battle.left, vote.battle.right))
    return key_of(vote.battle.question), one, other


def _share(holds: Sequence[bool], votes: Sequence[Vote]) -> Estimate:
    return win_rate([float(each) for each in holds], _prompts(votes)).scaled(100)


def _doubts(votes: Sequence[Vote]) -> list[str]:
    """Say what speaks against taking the numbers as they are."""
    notes: list[str] = []
    apart = bradley_terry.parts([_compared(vote) for vote in votes])
    if len(apart) > 1:
        told = "; ".join(" and ".join(sorted(part)) for part in apart)
        notes.append(f"no vote links these, so they have no common rating: {told}")
    decisive = [vote for vote in votes if vote.winner is not None]
    if decisive:
        left = _share([vote.verdict == "left" for vote in decisive], decisive)
        if not left.low <= 50 <= left.high:
            side = "left" if left.value > 50 else "right"
            notes.append(f"the {side} answer was preferred more often than chance allows: the place decided, too")
    held = _held(votes)
    if held and share(sum(held), len(held)).high < 0.7:
        notes.append(f"{sum(held)} of {len(held)} battles shown again got the same verdict, not far from a coin's")
    seconds = [vote.seconds for vote in votes if vote.seconds is not None]
    if seconds and median(seconds) < HASTY_S:
        notes.append(f"half of the votes came within {median(seconds):.1f} s of seeing two answers")
    same = sum(vote.seconds is None for vote in votes)
    if same:
        notes.append(f"{same} of {len(votes)} pairs of answers were equal and counted as ties without being shown")
    named = [vote for vote in votes if _names_itself(vote)]
    if named:
        notes.append(_without(votes, named))
    return notes


def _names_itself(vote: Vote) -> bool:
    """Whether an answer says the name of its model, where the prompt does not."""
    asked = " ".join([vote.battle.question.text, *(turn.content for turn in vote.battle.question.prompt)]).lower()
    return any(
        re.search(rf"(?<![a-z]){word}(?![a-z])", vote.answer_of(label).text.lower()) and word not in asked
        for label in (vote.battle.left, vote.battle.right)
        for word in set(re.findall(r"[a-z]{4,}", label.lower())) - COMMON
    )


def _without(votes: Sequence[Vote], named: Sequence[Vote]) -> str:
    told = f"in {len(named)} battles an answer says its model's name, so the vote was not blind"
    rest = [vote for vote in votes if vote not in named]
    labels = sorted({label for vote in rest for label in (vote.battle.left, vote.battle.right)})
    if len(labels) != 2:
        return told
    rate = _rate(rest, labels[0]).scaled(100)
    return f"{told}; without them {labels[0]} wins {rate.value:.0f} % [{rate.low:.0f}, {rate.high:.0f}] of {rate.n}"


def told_at_the_end(votes: Sequence[Vote]) -> dict[str, Any]:
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
