"""The card's evidence: what changed, scores with intervals, answers side by side, and what nothing was measured of."""

from collections.abc import Iterable, Sequence
from typing import Any

from poise.publish.card.about import NOT_MEASURED, About
from poise.publish.card.making import path_end
from poise.publish.card.markdown import block, inline, table
from poise.report.answers import Answers, Question, choose_answers
from poise.report.scores import Score, compare, scored_sets
from poise.report.stage import Stage
from poise.report.verdict import verdict
from poise.report.wording import percent

SHOWN_CHARACTERS = 1200
OF_THE_DATA = "sample"
"""The set of questions that a run has taken from its data."""
UNKNOWN = ("Safety", "Bias", "Languages other than those of its data", "Truth of what it says", "Privacy of its data")


def changed(trainings: Sequence[Stage]) -> str:
    """Say what the report says: the verdict and what stands behind it."""
    if not trainings:
        return f"{NOT_MEASURED.capitalize()}: no run stands beside the model."
    reached = verdict(trainings)
    return "\n".join(
        [f"**{inline(reached.headline)}**", "", *(f"- {inline(line)}" for line in reached.details)]
    ).strip()


def scores(about: About) -> str:
    """Write every scored set and every evaluation as a table."""
    parts: list[str] = []
    last = about.lineage.trainings[-1] if about.lineage.trainings else None
    sets = scored_sets(last.evidence, last.samples) if last else []
    if last and sets:
        rows = [
            (
                one.title,
                max(score.n for score in one.scores.values()),
                *(_score(one.scores.get(label)) for label in last.labels),
                *(f"{change.points:+.0f} points ({change.interval[0]:+.0f} to {change.interval[1]:+.0f})"
                  for change in compare(one, last.labels)[-1:]),
            )
            for one in sets
        ]  # fmt: skip
        head = ["questions", "n", *map(inline, last.labels), *(["difference"] if len(last.labels) > 1 else [])]
        parts += [table(head, [(*row, *[""] * (len(head) - len(row))) for row in rows]),
                  "Share right with its 95 % interval (Wilson); differences with theirs (Newcombe)."]  # fmt: skip
    for evaluation in about.evaluations:
        parts.append(f"### {inline(evaluation.kind)} of {inline(path_end(evaluation.model))}")
        if evaluation.judge:
            parts.append(f"Judged by {inline(evaluation.judge)}.")
        for title, unit, lines in evaluation.tables:
            rows = [(line.name, line.value, line.interval, line.n, line.unscored or "none") for line in lines]
            parts += [f"{inline(title)} ({inline(unit)})", table(("", "value", "95 %", "n", "without a score"), rows)]
        parts += [f"- {inline(note)}" for note in evaluation.notes]
    return "\n\n".join(parts) or f"Benchmarks and scores: {NOT_MEASURED}."


def answers(about: About) -> str:
    """Show some questions with the answers of each model."""
    if not about.lineage.trainings or not about.answers:
        return f"Answers: {NOT_MEASURED if about.answers else 'left out'}."
    last = about.lineage.trainings[-1]
    samples = [sample for sample in last.samples if about.with_rows or sample.get("set") != OF_THE_DATA]
    if last.samples and not samples:
        return "Answers: left out, for the questions are rows of the data."
    chosen = choose_answers(samples, last.labels)
    parts: list[str] = []
    for question in _picked(chosen, about.answers):
        asked = "\n".join(f"{role}: {text.whole or text.shown}" for role, text in question.prompt)
        parts.append(block(asked[:SHOWN_CHARACTERS]))
        for answer in question.answers:
            flags = [answer.mark_text.removeprefix("✓ ").removeprefix("✗ "), "" if answer.stopped else "never stopped"]
            told = ", ".join(flag for flag in flags if flag)
            parts.append(f"**{inline(answer.label)}**{f' ({inline(told)})' if told else ''}:")
            said = (answer.text.whole or answer.text.shown)[:SHOWN_CHARACTERS]
            parts.append(block(said if said.strip() else "(empty answer)"))
    if not parts:
        return f"Answers: {NOT_MEASURED}."
    lost, won, same = chosen.counts
    scored = chosen.losses is not None
    head = (
        f"Of {lost + won + same} questions: {lost} lost, {won} won, {same} neither. A sample, the largest losses first."
        if scored
        else f"A sample of {same} questions, none of which has a score."
    )
    return "\n\n".join([head, *parts])


def _picked(chosen: Answers, at_most: int) -> list[Question]:
    """Take losses, wins and the rest in turn."""
    groups = [list(group) for group in (chosen.losses or [], chosen.wins or [], chosen.rest)]
    picked: list[Question] = []
    while len(picked) < at_most and any(groups):
        picked += [group.pop(0) for group in groups if group]
    return picked[:at_most]


def limits(about: About) -> str:
    """Say what went wrong, and what nobody looked at."""
    trainings = about.lineage.trainings
    told = [f"- {inline(note)}" for note in _failings(trainings)]
    asked = sum(one.scores[label].n for one, label in _last_scores(trainings))
    told.append(
        f"- Scored on {asked:,} questions; what they do not ask is {NOT_MEASURED}."
        if asked
        else f"- How well it answers: {NOT_MEASURED}."
    )
    longest = max(map(_longest, trainings), default=0)
    told.append(
        f"- Longest sequence trained on: {longest:,.0f} tokens; beyond that, {NOT_MEASURED}."
        if longest
        else f"- Longest text it was trained on: {NOT_MEASURED}."
    )
    told += [f"- {what}: {NOT_MEASURED}." for what in UNKNOWN]
    return "\n".join(told)


def _longest(stage: Stage) -> float:
    """Return the tokens of the longest row."""
    histogram = (stage.manifest.get("data") or {}).get("token_histogram") or {}
    return max(histogram.get("edges") or [0])


def _failings(trainings: Sequence[Stage]) -> list[str]:
    """Repeat what the report holds against the result."""
    if not trainings:
        return []
    last = trainings[-1]
    fell = [change for one in scored_sets(last.evidence, last.samples) for change in compare(one, last.labels)[-1:]]
    return [f"{change.name}: fell by {-change.points:.0f} points" for change in fell if change.points < 0]


def _last_scores(trainings: Sequence[Stage]) -> Iterable[tuple[Any, str]]:
    if trainings and trainings[-1].labels:
        label = trainings[-1].labels[-1]
        for one in scored_sets(trainings[-1].evidence, trainings[-1].samples):
            if label in one.scores:
                yield one, label


def _score(score: Score | None) -> str:
    if score is None:
        return NOT_MEASURED
    low, high = score.interval
    return f"{percent(score.share)} ({percent(low)} to {percent(high)})"
