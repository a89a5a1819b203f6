"""What should make one doubt a tally: voters who did not look, answers that were not blind, models that never met."""

import re
from collections.abc import Sequence
from statistics import median

from poise.arena.scores import compared, held_when_shown_again, rate_of, share_of
from poise.arena.store import Vote
from poise.evaluate.ratings import parts
from poise.evaluate.statistics import share

HASTY_S = 1.5
"""Half of the votes within this many seconds of seeing two answers: hardly read."""
COIN = 0.7
"""Verdicts that surely hold less often than this when shown again are not far from a coin's."""
COMMON = frozenset({"base", "model", "chat", "instruct", "merged", "after", "before", "final", "adapter", "lora"})
"""Words of labels that are no names."""


def doubts(votes: Sequence[Vote]) -> list[str]:
    """Say what speaks against taking the numbers as they are."""
    notes: list[str] = []
    apart = parts([compared(vote) for vote in votes])
    if len(apart) > 1:
        told = "; ".join(" and ".join(sorted(part)) for part in apart)
        notes.append(f"no vote links these, so they have no common rating: {told}")
    decisive = [vote for vote in votes if vote.winner is not None]
    if decisive:
        left = share_of([vote.verdict == "left" for vote in decisive], decisive)
        if not left.low <= 50 <= left.high:
            side = "left" if left.value > 50 else "right"
            notes.append(f"the {side} answer was preferred more often than chance allows: the place decided, too")
    held = held_when_shown_again(votes)
    if held and share(sum(held), len(held)).high < COIN:
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
    rate = rate_of(rest, labels[0]).scaled(100)
    return f"{told}; without them {labels[0]} wins {rate.value:.0f} % [{rate.low:.0f}, {rate.high:.0f}] of {rate.n}"
