"""Votes as numbers: what a vote gave a model, rates over votes, and which votes belong together."""

from collections.abc import Sequence

from poise.arena.contestants import key_of
from poise.arena.store import Vote
from poise.evaluate import ratings
from poise.evaluate.statistics import Estimate, win_rate


def score_of(vote: Vote, label: str) -> float:
    """Return 1 for a win, 0.5 for a tie or two bad answers, 0 for a loss."""
    return 0.5 if vote.winner is None else float(vote.winner == label)


def rate_of(votes: Sequence[Vote], label: str) -> Estimate:
    """Estimate how often a model wins, a tie half a win; votes on one prompt are drawn together."""
    return win_rate([score_of(vote, label) for vote in votes], prompts_of(votes))


def share_of(holds: Sequence[bool], votes: Sequence[Vote]) -> Estimate:
    """Estimate the percentage of votes for which something holds."""
    return win_rate([float(each) for each in holds], prompts_of(votes)).scaled(100)


def compared(vote: Vote) -> ratings.Vote:
    """Return a vote as ratings take it."""
    first, second = sorted((vote.battle.left, vote.battle.right))
    return ratings.Vote(first, second, score_of(vote, first), key_of(vote.battle.question))


def prompts_of(votes: Sequence[Vote]) -> list[str]:
    """Votes on one prompt are one cluster: several voters, or a battle shown again."""
    return [key_of(vote.battle.question) for vote in votes]


def meeting(vote: Vote) -> tuple[str, str, str]:
    """Name what a battle and its repetition share: the prompt, and who met."""
    one, other = sorted((vote.battle.left, vote.battle.right))
    return key_of(vote.battle.question), one, other


def held_when_shown_again(votes: Sequence[Vote]) -> list[bool]:
    """Return of each vote on a battle that was shown again whether it went to the same model as the first time."""
    first = {(vote.voter, *meeting(vote)): vote.winner for vote in votes if not vote.battle.again}
    repeats = [(vote.winner, (vote.voter, *meeting(vote))) for vote in votes if vote.battle.again]
    return [first[key] == winner for winner, key in repeats if key in first]
