"""The verdict: did the training make the model better? Answers decide it, never the reward curve.

Reward accuracy reads 1.00 for a good DPO run and for one that ruined the model, so it is only quoted here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from poise import progress
from poise.report.scores import CLEAR_P, Change, ScoredSet, compare, scored_sets
from poise.report.signals import displacement, signals, stopping, with_text
from poise.report.stage import Stage
from poise.report.wording import compact, percent

Level = Literal["good", "bad", "mixed", "unmeasured"]


@dataclass(frozen=True)
class Verdict:
    """One level, one sentence, and what stands behind it."""

    level: Level
    headline: str
    details: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as the three keys every `--json` uses."""
        return {"verdict": self.headline, "verdict_level": self.level, "verdict_details": list(self.details)}

    def tell(self) -> None:
        """Say it to the person waiting."""
        progress.say(f"\n{self.headline}")
        for detail in self.details:
            progress.say(f"  {detail}")


def verdict(stages: Sequence[Stage]) -> Verdict:
    """Judge the last stage against the one before it and against the start, by what the models answered.

    A set is lost (or learned) when it moved by at least 10 points and an exact test gives p < 0.05. A loss of half of
    what the model could do is not balanced by a gain elsewhere.
    """
    last = stages[-1]
    sets = scored_sets(last.evidence, last.samples)
    falls = _falls([*sets, with_text(last)], last.labels)
    kept = [one for one in sets if one.name not in {fall.name for fall in falls}]
    rises, dips = _rises(kept, last.labels), _dips(kept, last.labels)
    details = [_explain(change) for change in (*falls, *rises, *dips)] + signals(stages)
    if falls:
        blamed = _blamed(stages, sets, falls[0])
        level = "mixed" if rises and not _is_ruin(falls) else "bad"
        return Verdict(level, _loss_headline(blamed, falls, rises), (*_cause_and_remedy(blamed), *details))
    if rises:
        level = "mixed" if any(dip.is_large for dip in dips) else "good"
        return Verdict(level, f"Learned: {_list(rises)}, {_describe(dips)}.", tuple(details))
    if sets:
        return Verdict("unmeasured", _no_difference_headline(sets, last.labels), tuple(details))
    return Verdict("unmeasured", _unmeasured_headline(last), tuple(details))


def changed_answers(stage: Stage) -> tuple[int, int]:
    """Return how many answers the last model gives differently from the first, and of how many."""
    first, last = stage.labels[0], stage.labels[-1]
    answers: list[dict[str, Any]] = [sample.get("answers") or {} for sample in stage.samples]
    both = [(one[first], one[last]) for one in answers if first in one and last in one]
    return sum(was.get("text") != now.get("text") for was, now in both), len(both)


def _falls(sets: Sequence[ScoredSet], labels: Sequence[str]) -> list[Change]:
    """Return the clear losses, the largest first; a loss against the previous model names the cause best."""
    found = [next((change for change in compare(one, labels) if change.fell), None) for one in sets]
    return sorted((fall for fall in found if fall), key=lambda fall: fall.points)


def _rises(sets: Sequence[ScoredSet], labels: Sequence[str]) -> list[Change]:
    """Return the clear gains in the order of the evidence; a gain against the first model tells the whole story."""
    found = [next((change for change in reversed(compare(one, labels)) if change.rose), None) for one in sets]
    return [rise for rise in found if rise]


def _dips(sets: Sequence[ScoredSet], labels: Sequence[str]) -> list[Change]:
    """Return the falls that are no clear loss: large on too few questions to be sure, or sure but small."""
    found = [
        next((change for change in compare(one, labels) if change.points < 0 and change.is_notable), None)
        for one in sets
    ]
    return [dip for dip in found if dip]


def _is_ruin(falls: Sequence[Change]) -> bool:
    return any(fall.now.share <= fall.was.share / 2 for fall in falls)


def _blamed(stages: Sequence[Stage], sets: Sequence[ScoredSet], fall: Change) -> Stage:
    """Find the stage after which the set fell most."""
    labels = stages[-1].labels
    one = next((one for one in sets if one.name == fall.name), None)
    if fall.start == labels[-2] or one is None:
        return stages[-1]
    steps = [change for pair in pairwise(labels) if (change := one.change(*pair))]
    worst = min(steps, key=lambda change: change.points).end
    return next((stage for stage in stages if stage.name == worst), stages[-1])


def _loss_headline(blamed: Stage, falls: Sequence[Change], rises: Sequence[Change]) -> str:
    name = blamed.name.upper()
    lost = _join(f"{_name(fall)} fell from {percent(fall.was.share)} to {percent(fall.now.share)}" for fall in falls)
    accuracy = _end(blamed, "rewards/accuracies")
    curve = f" while reward accuracy reads {accuracy:.2f}" if accuracy is not None and accuracy >= 0.95 else ""
    if _is_ruin(falls):
        return f"{name} ruined the model: {lost}{curve}."
    if rises:
        return f"A trade: learned {_list(rises)}, but with {name} {lost}."
    return f"{name} cost the model what it could do: {lost}{curve}."


def _no_difference_headline(sets: Sequence[ScoredSet], labels: Sequence[str]) -> str:
    changes = [change for one in sets for change in compare(one, labels)[-1:]]
    if not changes:
        return "Better or worse is not known: only one model was scored, so there is nothing to compare."
    asked = sum(change.now.n for change in changes)
    if any(change.is_large for change in changes):
        return f"Too few questions to tell: {_list(changes)} on {asked} questions could be chance."
    return f"No set moved by 10 points or more: {_list(changes)} on {asked} questions."


def _describe(dips: Sequence[Change]) -> str:
    """Close the good news with what may stand against it."""
    unsure, small = [dip for dip in dips if dip.is_large], [dip for dip in dips if not dip.is_large]
    if unsure:
        return f"but too few questions to rule out a loss: {_list(unsure)}"
    return f"with a small loss: {_list(small)}" if small else "nothing lost"


def _unmeasured_headline(last: Stage) -> str:
    facts = [*_answer_facts(last), *_end_facts(last)]
    told = f" {'; '.join(facts)}." if facts else ""
    return f"Better or worse is not known: no scored questions were given.{told[:1]}{told[1:2].upper()}{told[2:]}"


def _answer_facts(last: Stage) -> list[str]:
    if len(last.labels) < 2:
        return []
    differ, asked = changed_answers(last)
    if not asked:
        return []
    stops = stopping(last).scores[last.labels[-1]]
    return [f"{differ} of {asked} answers changed", f"{stops.right:.0f} of {stops.n} stop by themselves"]


def _end_facts(last: Stage) -> list[str]:
    ends = [
        f"{title} {compact(value)}"
        for key, title in (("loss", "loss"), ("rewards/accuracies", "reward accuracy"), ("rewards/margins", "margin"))
        if (value := _end(last, key)) is not None
    ]
    return [f"{last.name.upper()} ended at {', '.join(ends)}"] if ends else []


def _explain(change: Change) -> str:
    moved = f"{_name(change)}: {percent(change.was.share)} → {percent(change.now.share)}"
    pairs = f"; {change.pairs[0]} got worse, {change.pairs[1]} better" if change.pairs else ""
    p = "p < 0.001" if change.p < 0.001 else f"p = {change.p:.2g}"
    doubt = "" if change.is_clear else "; under 10 points" if change.p < CLEAR_P else "; this can be chance"
    low, high = change.interval
    points = f"{change.points:+.0f} points, 95 %: {low:+.0f} to {high:+.0f}"
    return f"{moved} ({change.start} → {change.end}: {points}; {change.now.n} questions{pairs}, {p}{doubt})."


def _cause_and_remedy(stage: Stage) -> list[str]:
    """Name the likely cause from the run's own numbers, and the one thing to do."""
    rate = max((value for _, value in stage.series("learning_rate")), default=None)
    causes = [f"a learning rate that peaked at {compact(rate)}"] if rate else []
    if displacement(stage):
        causes.append("the chosen answers themselves became less likely")
    lower = f"a tenth of the learning rate ({compact(rate / 10)})" if rate else "a smaller learning rate"
    if stage.series("rewards/margins"):
        remedy = f"train {stage.name} again with {lower}"
    else:
        remedy = f"train {stage.name} again with {lower} or fewer epochs, and mix in data that holds what was lost"
    return [*([f"Likely cause: {'; '.join(causes)}."] if causes else []), f"To do: {remedy}."]


def _end(stage: Stage, key: str) -> float | None:
    points = stage.series(key)
    return points[-1][1] if points else None


def _list(changes: Sequence[Change]) -> str:
    """Write `facts 0 → 100 %, polite 40 → 100 %`."""
    return _join(
        f"{_name(change)} {percent(change.was.share).removesuffix(' %')} → {percent(change.now.share)}"
        for change in changes
    )


def _join(parts: Iterable[str]) -> str:
    """Name the first three; a headline is one sentence."""
    named = list(parts)
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")


def _name(change: Change) -> str:
    return change.name.replace("_", " ")
