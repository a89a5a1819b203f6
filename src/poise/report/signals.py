"""Signals: what else a careful reader of the logs and answers would say, as sentences.

Likelihood displacement: arXiv:2410.08847.
"""

from collections.abc import Sequence
from statistics import mean

from poise.diagnosis import AT_LN2, LN2, STARTS_AT_LN2
from poise.report.scores import ScoredSet, answers_that, compare
from poise.report.stage import Stage
from poise.report.wording import compact, count, is_number


def stopping(stage: Stage) -> ScoredSet:
    """Count the answers that ended by themselves."""
    return answers_that(
        "answers that stop by themselves", lambda answer: bool(answer.get("stopped")), stage.labels, stage.samples
    )


def with_text(stage: Stage) -> ScoredSet:
    """Count the answers that hold any text."""
    return answers_that(
        "answers that are not empty",
        lambda answer: bool(str(answer.get("text", "")).strip()),
        stage.labels,
        stage.samples,
    )


def displacement(stage: Stage) -> str:
    """Say by how much the chosen answers became less likely; empty when they did not by at least a nat.

    Batches differ in length, so tenths of the run are compared, and the reward (free of length) must fall too.
    """
    reward_start, reward_end = _tenths(stage, "rewards/chosen")
    start, end = _tenths(stage, "logps/chosen")
    if start - end < 1 or reward_end >= reward_start:
        return ""
    return (
        f"the log-probability of the chosen answers fell by {start - end:.1f} nats "
        f"({compact(start)} → {compact(end)}, first and last tenth of the logged steps)"
    )


def _tenths(stage: Stage, key: str) -> tuple[float, float]:
    """Return the means of the first and of the last tenth of a metric; zeros where it was not logged."""
    values = [value for _, value in stage.series(key)] or [0.0]
    tenth = max(1, len(values) // 10)
    return mean(values[:tenth]), mean(values[-tenth:])


def signals(stages: Sequence[Stage]) -> list[str]:
    """Collect what else a careful reader of the logs would say."""
    found = [line for stage in stages for line in _stage_signals(stage)]
    last = stages[-1]
    if stops := next((change for change in compare(stopping(last), last.labels) if change.fell), None):
        found.append(
            f"Answers no longer stop: {stops.was.right:.0f} of {stops.was.n} ended by themselves ({stops.start}), "
            f"now {stops.now.right:.0f} of {stops.now.n}."
        )
    text = with_text(last).scores.get(last.labels[-1]) if last.labels else None
    if text and text.right < text.n:
        found.append(f"{text.n - text.right:.0f} of {text.n} answers are empty ({last.labels[-1]}).")
    return found


def _stage_signals(stage: Stage) -> list[str]:
    found: list[str] = []
    status = stage.manifest.get("status")
    if status != "done":
        found.append(f"{stage.name}: the run is not finished, its status is {status or 'unknown'}.")
    losses = [value for _, value in stage.series("loss")]
    broken = sum("loss" in line and not is_number(line["loss"]) for line in stage.metrics)
    if broken:
        found.append(
            f"{stage.name}: the loss was not a number at {count(broken)} of {len(stage.metrics)} logged steps."
        )
    said = stage.manifest.get("diagnoses") or {}
    found += [f"{stage.name}: {sentence}." for sentence in said.values()]
    still = len(losses) > 1 and all(abs(loss - LN2) < AT_LN2 for loss in losses)
    if "stuck" not in said and stage.name in STARTS_AT_LN2 and still:
        found.append(f"{stage.name}: the loss stayed at ln 2 = 0.693: the model has not moved from its reference.")
    if "displaced" not in said and (fall := displacement(stage)):
        found.append(
            f"{stage.name}: {fall}; this is likelihood displacement, what was preferred became less likely too."
        )
    return found
