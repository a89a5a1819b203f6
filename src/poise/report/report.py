"""The report: Run folders in, one `report.html` out that needs no script, no network and no other file.

Everything in it was written by models, rows and paths, so every text is escaped and the page forbids itself to load or
run anything. The same folders give the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from poise.errors import RunError
from poise.report.answers import choose_answers
from poise.report.charts import Figure, curves, histogram
from poise.report.evaluations import Compared, Evaluation, compare_evaluations, read_evaluations
from poise.report.forecast import Comparison, compare_forecast
from poise.report.scores import Change, Score, ScoredSet, compare, scored_sets
from poise.report.signals import stopping
from poise.report.stage import Stage, read_evidence, read_stage
from poise.report.verdict import Verdict, changed_answers, verdict
from poise.report.wording import compact, count, duration, percent, size
from poise.run import write_whole

POINTS_SHOWN = 40
BIG_NUMBERS = 3
VISIBLE = {
    code: f"\\u{code:04x}"
    for span in (
        (0x00, 0x09),
        (0x0B, 0x0D),
        (0x0E, 0x20),
        (0x7F, 0xA0),
        (0x202A, 0x202F),
        (0x2066, 0x206A),
        (0xD800, 0xE000),
    )
    for code in range(*span)
}
"""Controls are shown as escapes: a direction override could turn the page's own words around, a lone surrogate has no
bytes."""


@dataclass(frozen=True)
class BigNumber:
    """One of the numbers under the verdict."""

    title: str
    score: Score
    was: str
    """What it is compared with, in words."""


@dataclass(frozen=True)
class ScoreRow:
    """One line of the scores table."""

    title: str
    n: int
    cells: list[tuple[Score, Change | None] | None]
    """Per model, its score and its difference to the model before it."""


@dataclass(frozen=True)
class StageView:
    """What the page shows of one stage."""

    stage: Stage
    figures: list[Figure]
    points: tuple[list[str], list[list[Any]]]
    """Column names and rows of the logged steps, evenly thinned."""
    lengths: Figure | None
    cost: list[tuple[str, str]]
    forecast: Comparison | None
    made_of: list[tuple[str, str]]
    """Versions, hashes and machine, as name and value."""


def build_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str = "What the training changed",
    evidence: Path | None = None,
    evaluations: Sequence[Path] = (),
) -> Verdict:
    """Write the report of one run, or of several that follow one another, to `out`.

    Answers and scores come from the last training's folder, or from `evidence`: a folder that holds evidence.json and
    samples.jsonl, or that evidence file. Folders of curations and merges tell what they did, and decide nothing.
    `evaluations` are folders of `poise evaluate`, shown as they are; the first of a kind is compared with the others.

    Raises:
        RunError: no run was given, or a folder is not a readable run or evaluation.
    """
    if not runs:
        raise RunError("a report needs at least one run folder")
    stages = [read_stage(run) for run in runs]
    if evidence is not None:
        scored, samples = read_evidence(evidence)
        last = stages.index(_judged(stages)[-1])
        stages[last] = replace(stages[last], evidence=scored, samples=samples)
    reached = verdict(_judged(stages))
    shown = read_evaluations(evaluations)
    page = render(stages, reached, title, shown, compare_evaluations(evaluations, shown))
    write_whole(out, page.translate(VISIBLE))
    return reached


def render(
    stages: Sequence[Stage],
    reached: Verdict,
    title: str,
    evaluations: Sequence[Evaluation] = (),
    compared: Sequence[Compared] = (),
) -> str:
    """Return the page."""
    last = _judged(stages)[-1]
    sets = scored_sets(last.evidence, last.samples)
    templates = Environment(
        loader=PackageLoader("poise.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(percent=percent, compact=compact, count=count, duration=duration, size=size)
    style, _, _ = templates.loader.get_source(templates, "style.css")  # pyright: ignore[reportOptionalMemberAccess]
    return templates.get_template("report.html.jinja").render(
        title=title,
        style=Markup(style),
        verdict=reached,
        big_numbers=_big_numbers(last, sets),
        labels=last.labels,
        answers=choose_answers(last.samples, last.labels),
        scores=[_score_row(one, last.labels) for one in sets],
        evaluations=evaluations,
        compared=compared,
        last=last,
        stages=[_view(stage) for stage in stages],
    )


def _judged(stages: Sequence[Stage]) -> Sequence[Stage]:
    """Return the trainings; all stages where nothing was trained."""
    return [stage for stage in stages if stage.trains] or stages


def _big_numbers(last: Stage, sets: Sequence[ScoredSet]) -> list[BigNumber]:
    """Return the sets that moved most against the previous model; what is known of the answers where none is scored."""
    moved = [(one, changes[0]) for one in sets if (changes := compare(one, last.labels))]
    moved.sort(key=lambda pair: (not pair[1].fell, -abs(pair[1].points)))
    if moved:
        return [
            BigNumber(one.title, change.now, f"{change.start} {percent(change.was.share)}")
            for one, change in moved[:BIG_NUMBERS]
        ]
    if len(last.labels) < 2 or not (changed := changed_answers(last))[1]:
        return []
    stops = stopping(last)
    was = stops.scores.get(last.labels[0])
    return [
        BigNumber("answers changed", Score(*changed), f"{last.labels[0]} → {last.labels[-1]}"),
        BigNumber(stops.title, stops.scores[last.labels[-1]], f"{last.labels[0]} {percent(was.share)}" if was else ""),
    ]


def _score_row(one: ScoredSet, labels: Sequence[str]) -> ScoreRow:
    cells = [
        (one.scores[label], one.change(before, label)) if label in one.scores else None
        for before, label in zip([*labels[:1], *labels], labels, strict=False)
    ]
    return ScoreRow(one.title, max(score.n for score in one.scores.values()), cells)


def _view(stage: Stage) -> StageView:
    data = _section(stage.manifest, "data")
    lengths = _section(data, "token_histogram")
    return StageView(
        stage=stage,
        figures=curves(stage),
        points=_points(stage.metrics),
        lengths=histogram("tokens per row", lengths.get("edges"), lengths.get("counts")),
        cost=_cost(stage),
        forecast=compare_forecast(stage),
        made_of=_made_of(stage),
    )


def _points(metrics: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    columns = list(dict.fromkeys(key for line in metrics for key in line))
    every = max(1, -(-len(metrics) // POINTS_SHOWN))
    kept = [*metrics[:-1:every], *metrics[-1:]]
    return columns, [[line.get(column) for column in columns] for line in kept]


def _cost(stage: Stage) -> list[tuple[str, str]]:
    """Return what the run took: time, speed, memory, tokens."""
    speeds = [value for _, value in stage.series("tokens_per_second")]
    memory = [value for _, value in stage.series("peak_memory_bytes")]
    data = _section(stage.manifest, "data")
    facts = {
        "wall time": duration(stage.manifest.get("seconds")),
        "optimizer steps": count(stage.manifest.get("optimizer_steps")),
        "rows": count(data.get("rows")),
        "tokens": count(data.get("tokens")),
        "trained tokens": count(data.get("trained_tokens")),
        "tokens per second (median)": count(median(speeds)) if speeds else "–",
        "peak memory": size(max(memory)) if memory else "–",
    }
    return [(name, value) for name, value in facts.items() if value != "–"]


def _made_of(stage: Stage) -> list[tuple[str, str]]:
    """Return all that decides the result besides the recipe, flat: `model.dtype`, `versions.torch`, `data.sha256`."""
    facts = {"poise": stage.manifest.get("poise"), "created": stage.manifest.get("created")}
    for part in ("model", "data", "reference", "versions", "machine", "result"):
        facts |= {f"{part}.{key}": value for key, value in _section(stage.manifest, part).items()}
    plain = {name: value for name, value in facts.items() if not isinstance(value, dict | list) and value is not None}
    return [(name, size(value) if name.endswith("_bytes") else _plain(value)) for name, value in plain.items()]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return count(value) if isinstance(value, int) else compact(value)


def _section(values: dict[str, Any], key: str) -> dict[str, Any]:
    section = values.get(key)
    return section if isinstance(section, dict) else {}
