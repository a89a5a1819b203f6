"""Preferences over held-out pairs: which answer a model finds likelier, which is rewarded, and how sure that is.

Everything is kept per pair and averaged over pairs: a mean of the means of batches, as trainers print it, weighs the
pairs of a last, smaller batch more. Accuracies are strict: a model that is its own reference has a reward accuracy of
0, and its likelihood accuracies say what it prefers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from poise.evaluate.journal import content_key
from poise.evaluate.result import Item, Line, Table
from poise.evaluate.statistics import Estimate, difference, mean


@dataclass(frozen=True)
class Answer:
    """One side of a pair."""

    tokens: int
    logp: float
    """log pi(y|x) in nats."""
    reference_logp: float | None
    """log ref(y|x) in nats; None without a reference."""
    reward: float | None
    """As the objective defines it; None where it defines none."""

    @property
    def mean_logp(self) -> float:
        """log pi(y|x) per token."""
        return self.logp / max(1, self.tokens)


@dataclass(frozen=True)
class ScoredPair:
    """Two answers to one prompt."""

    id: str
    place: str
    """`file:row`."""
    prompt: str
    """A hash of the prompt: pairs that share it are not independent."""
    asked: str
    """A hash of prompt and both answers."""
    chosen: Answer
    rejected: Answer

    @property
    def margin(self) -> float | None:
        """Reward of the chosen answer over that of the rejected one."""
        if self.chosen.reward is None or self.rejected.reward is None:
            return None
        return self.chosen.reward - self.rejected.reward


Number = Callable[[ScoredPair], float]
"""What is averaged over pairs."""


def likelier(pair: ScoredPair) -> float:
    """Whether the model finds the chosen answer likelier."""
    return float(pair.chosen.logp > pair.rejected.logp)


def likelier_per_token(pair: ScoredPair) -> float:
    """Whether it does so per token, so that length alone gains nothing."""
    return float(pair.chosen.mean_logp > pair.rejected.mean_logp)


def rewarded(pair: ScoredPair) -> float:
    """Whether the chosen answer has the higher reward."""
    return float(margin(pair) > 0)


def margin(pair: ScoredPair) -> float:
    """Return the margin of a pair that has rewards."""
    assert pair.margin is not None
    return pair.margin


def longer(pair: ScoredPair) -> float:
    """Whether the chosen answer is longer; half of it where both have the same number of tokens."""
    return (pair.chosen.tokens > pair.rejected.tokens) + 0.5 * (pair.chosen.tokens == pair.rejected.tokens)


def likelier_before(pair: ScoredPair) -> float:
    """Whether the reference finds the chosen answer likelier."""
    return float(_before(pair.chosen) > _before(pair.rejected))


def likelier_per_token_before(pair: ScoredPair) -> float:
    """Whether the reference does so per token."""
    chosen, rejected = pair.chosen, pair.rejected
    return float(_before(chosen) / max(1, chosen.tokens) > _before(rejected) / max(1, rejected.tokens))


def chosen_fell(pair: ScoredPair) -> float:
    """Whether the chosen answer is less likely than under the reference."""
    return float(_moved(pair.chosen) < 0)


def rejected_fell(pair: ScoredPair) -> float:
    """Whether the rejected answer is less likely than under the reference."""
    return float(_moved(pair.rejected) < 0)


def _before(answer: Answer) -> float:
    assert answer.reference_logp is not None
    return answer.reference_logp


def _moved(answer: Answer) -> float:
    return answer.logp - _before(answer)


def has_rewards(pairs: Sequence[ScoredPair]) -> bool:
    """Whether an objective gave rewards."""
    return all(pair.margin is not None for pair in pairs)


def has_reference(pairs: Sequence[ScoredPair]) -> bool:
    """Whether a reference was scored beside the model."""
    return all(pair.chosen.reference_logp is not None for pair in pairs)


def tables(pairs: Sequence[ScoredPair], method: str) -> list[Table]:
    """Return every share and mean with its interval; `method` names the objective whose rewards they are."""
    found = [_preferences(pairs)]
    if has_reference(pairs):
        found.append(_changes(pairs))
    if has_rewards(pairs):
        found.append(_rewards(pairs, method))
    return [*found, _likelihoods(pairs), _lengths(pairs)]


def items(pairs: Sequence[ScoredPair], method: str, measured: Sequence[object]) -> list[Item]:
    """Return what two models are compared by.

    `measured` is what rewards depend on beside the model: another reference or beta makes them other numbers, while
    likelihoods need but the same pairs.
    """
    tasks: dict[str, tuple[Number, list[object]]] = {
        "likelihood accuracy": (likelier, []),
        "likelihood accuracy per token": (likelier_per_token, []),
    }
    if has_rewards(pairs):
        tasks |= {
            f"reward accuracy ({method})": (rewarded, [*measured]),
            f"reward margin ({method})": (margin, [*measured]),
        }
    return [
        Item(task, pair.id, pair.prompt, content_key([pair.asked, *settings]), number(pair))
        for task, (number, settings) in tasks.items()
        for pair in pairs
    ]


def figures(pairs: Sequence[ScoredPair]) -> dict[str, object]:
    """Return what has no interval: the histogram of the margins and their middle."""
    if not has_rewards(pairs):
        return {}
    import numpy as np

    margins = [margin(pair) for pair in pairs]
    counts, edges = np.histogram(margins, bins=24)
    return {
        "median_margin": float(np.median(margins)),
        "margin_histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def notes(pairs: Sequence[ScoredPair]) -> list[str]:
    """Say what the numbers would hide."""
    said: list[str] = []
    if has_reference(pairs) and not any(_moved(each) for pair in pairs for each in (pair.chosen, pair.rejected)):
        said.append("model and reference are the same: every reward is 0, so look at the likelihood accuracies alone")
    elif has_rewards(pairs):
        ahead = _difference(pairs, longer, rewarded)
        if not ahead.low > 0:
            said.append(
                "the reward accuracy is not clearly above that of taking the longer answer "
                f"({100 * ahead.value:+.1f} points, {100 * ahead.low:+.1f} to {100 * ahead.high:+.1f})"
            )
    if has_reference(pairs) and mean([chosen_fell(pair) for pair in pairs], _clusters(pairs)).low > 0.5:
        said.append("most chosen answers have become less likely: the margin was won by lowering both answers")
    return said


def flat(pair: ScoredPair) -> dict[str, object]:
    """Return a pair as one line of pairs.jsonl."""
    line: dict[str, object] = {"id": pair.id, "place": pair.place, "prompt": pair.prompt, "margin": pair.margin}
    for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        line |= {f"{key}_{side}": value for key, value in vars(answer).items()}
    return line


def _preferences(pairs: Sequence[ScoredPair]) -> Table:
    lines = [
        Line("likelihood accuracy", _percent(pairs, likelier)),
        Line("likelihood accuracy per token", _percent(pairs, likelier_per_token)),
        Line("'longer is chosen'", _percent(pairs, longer)),
    ]
    if has_rewards(pairs):
        ahead = _difference(pairs, longer, rewarded).scaled(100)
        lines = [
            Line("reward accuracy", _percent(pairs, rewarded)),
            *lines,
            Line("reward accuracy above 'longer is chosen'", ahead),
        ]
    return Table("The chosen answer comes first", "percent of pairs", lines)


def _changes(pairs: Sequence[ScoredPair]) -> Table:
    """Return what became of the reference's preferences; gains are paired."""
    return Table(
        "From the reference to the model",
        "percent of pairs",
        [
            Line("likelihood accuracy of the reference", _percent(pairs, likelier_before)),
            Line("gain", _difference(pairs, likelier_before, likelier).scaled(100)),
            Line("per token, of the reference", _percent(pairs, likelier_per_token_before)),
            Line("gain per token", _difference(pairs, likelier_per_token_before, likelier_per_token).scaled(100)),
            Line("chosen answers that fell", _percent(pairs, chosen_fell)),
            Line("rejected answers that fell", _percent(pairs, rejected_fell)),
        ],
    )


def _rewards(pairs: Sequence[ScoredPair], method: str) -> Table:
    return Table(
        "Rewards",
        f"as in {method}",
        [
            Line("chosen", _mean(pairs, lambda pair: pair.chosen.reward or 0.0)),
            Line("rejected", _mean(pairs, lambda pair: pair.rejected.reward or 0.0)),
            Line("margin", _mean(pairs, margin)),
        ],
    )


def _likelihoods(pairs: Sequence[ScoredPair]) -> Table:
    lines = [
        Line("chosen", _mean(pairs, lambda pair: pair.chosen.logp)),
        Line("rejected", _mean(pairs, lambda pair: pair.rejected.logp)),
        Line("chosen, per token", _mean(pairs, lambda pair: pair.chosen.mean_logp)),
        Line("rejected, per token", _mean(pairs, lambda pair: pair.rejected.mean_logp)),
    ]
    if has_reference(pairs):
        lines += [
            Line("chosen, from the reference", _mean(pairs, lambda pair: _moved(pair.chosen))),
            Line("rejected, from the reference", _mean(pairs, lambda pair: _moved(pair.rejected))),
        ]
    return Table("Log-probabilities", "nats", lines)


def _lengths(pairs: Sequence[ScoredPair]) -> Table:
    return Table(
        "Lengths",
        "tokens",
        [
            Line("chosen", _mean(pairs, lambda pair: float(pair.chosen.tokens))),
            Line("rejected", _mean(pairs, lambda pair: float(pair.rejected.tokens))),
        ],
    )


def _mean(pairs: Sequence[ScoredPair], number: Number) -> Estimate:
    values = [number(pair) for pair in pairs]
    assert all(map(math.isfinite, values))
    return mean(values, _clusters(pairs))


def _percent(pairs: Sequence[ScoredPair], number: Number) -> Estimate:
    return _mean(pairs, number).scaled(100)


def _difference(pairs: Sequence[ScoredPair], was: Number, now: Number) -> Estimate:
    return difference([was(pair) for pair in pairs], [now(pair) for pair in pairs], _clusters(pairs))


def _clusters(pairs: Sequence[ScoredPair]) -> list[str] | None:
    """Name the prompt of each pair; None where no two share one."""
    prompts = [pair.prompt for pair in pairs]
    return None if len(set(prompts)) == len(prompts) else prompts
