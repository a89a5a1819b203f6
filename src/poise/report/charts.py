"""Charts as inline SVG: Altair describes them, vl-convert draws them offline, `_tidy` makes them small and themeable.

Nothing is smoothed and no axis exaggerates: every y-axis holds 0, accuracy runs from 0 to 1, and the value that means
"nothing learned" is drawn. Colours are CSS variables, so one drawing is legible in light, in dark and on paper.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from poise.diagnosis import LN2, STARTS_AT_LN2
from poise.report.stage import Stage
from poise.report.wording import compact, count, is_number

WIDTH, HEIGHT = 250, 130
MOST_POINTS = 400
COLOURS, DASHES = ("var(--first)", "var(--second)"), ([1, 0], [5, 3])
MUTED, GRID = "var(--muted)", "var(--grid)"

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """One chart of a stage: which metrics it draws, the line that means something, and a fixed axis if it has one."""

    title: str
    keys: tuple[tuple[str, str], ...]
    """(metric, what the legend calls it)."""
    line: tuple[float, str] | None = None
    domain: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]

    @property
    def first(self) -> str:
        """The value it starts at."""
        return compact(self.points[0][1])

    @property
    def last(self) -> str:
        """The value it ends at."""
        return compact(self.points[-1][1])


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption and what it says to those who cannot see it."""

    title: str
    series: Sequence[Series]
    svg: Markup
    note: str = ""


LOSS = (("loss", "training"), ("eval_loss", "held out"))
LEARNING_RATE = Panel("learning rate", (("learning_rate", "learning rate"),))
PLAIN = (
    Panel("loss", LOSS),
    LEARNING_RATE,
    Panel("gradient norm", (("grad_norm", "gradient norm"),)),
    Panel("tokens per second", (("tokens_per_second", "tokens per second"),)),
)
PAIRS = (
    Panel("loss", LOSS),
    Panel("reward accuracy", (("rewards/accuracies", "accuracy"),), (0.5, "0.5 = a coin"), (0, 1)),
    Panel("reward margin", (("rewards/margins", "margin"),), (0, "0 = no preference")),
    Panel("rewards", (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")), (0, "0")),
    Panel("log-probability", (("logps/chosen", "chosen"), ("logps/rejected", "rejected"))),
    LEARNING_RATE,
)


def curves(stage: Stage) -> list[Figure]:
    """Draw the panels a stage has metrics for."""
    panels = PAIRS if stage.series("rewards/margins") else PLAIN
    return [figure for panel in panels if (figure := _curve(panel, stage))]


def histogram(title: str, edges: Any, counts: Any) -> Figure | None:
    """Draw counts between edges; None where they do not fit together."""
    if not isinstance(edges, list) or not isinstance(counts, list) or len(edges) != len(counts) + 1 or not counts:
        return None
    if not all(map(is_number, (*edges, *counts))):
        return None
    bars = [{"from": edges[i], "to": edges[i + 1], "rows": rows} for i, rows in enumerate(counts)]
    chart = (
        alt.Chart(alt.Data(values=bars))
        .mark_rect(fill=COLOURS[0], stroke="var(--card)", strokeWidth=1)
        .encode(
            x=alt.X("from:Q", axis=axis(6, "~s", "tokens"), scale=alt.Scale(zero=True)),
            x2="to:Q",
            y=alt.Y("rows:Q", axis=axis(max(1, min(4, round(max(counts)))), "~s", "rows")),
            y2=alt.datum(0),
        )
        .properties(width=2 * WIDTH, height=HEIGHT)
    )
    peak = max(bars, key=lambda bar: bar["rows"])
    alt_text = (
        f"Histogram, {count(sum(counts))} rows between {count(edges[0])} and {count(edges[-1])} tokens; "
        f"most ({count(peak['rows'])}) between {count(peak['from'])} and {count(peak['to'])}."
    )
    return Figure(title, (), draw(chart, alt_text))


def axis(ticks: int, number_format: str, title: str | None = None, *, extent: int = 0) -> alt.Axis:
    """Describe an axis of about so many ticks; `extent` pixels for its labels bring charts side by side into line."""
    label = f"datum.value == 0 ? '0' : format(datum.value, '{number_format}')"
    return alt.Axis(title=title, tickCount=ticks, labelExpr=label, minExtent=extent)


def draw(chart: Any, alt_text: str) -> Markup:
    """Draw a chart of Altair as SVG in the report's style, with what it says to those who cannot see it."""
    style: dict[str, Any] = {
        "labelColor": MUTED, "titleColor": MUTED, "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 11,
        "gridColor": GRID, "domain": False, "ticks": False, "labelPadding": 6, "titlePadding": 4,
    }  # fmt: skip
    themed = chart.configure(background="transparent", padding=4).configure_axis(**style).configure_view(stroke=None)
    return _tidy(vl_convert.vegalite_to_svg(themed.to_dict()), alt_text)


def _curve(panel: Panel, stage: Stage) -> Figure | None:
    drawn = [Series(name, points) for key, name in panel.keys if (points := stage.series(key))]
    if not drawn:
        return None
    line = (LN2, "ln 2") if panel.title == "loss" and stage.name in STARTS_AT_LN2 else panel.line
    most = max(len(series.points) for series in drawn)
    note = f"{count(most)} steps; of each bucket the lowest and the highest are drawn." if most > MOST_POINTS else ""
    svg = draw(_layers(panel, drawn, line), _alt_text(panel.title, drawn, line))
    return Figure(panel.title, drawn, svg, note)


def _layers(panel: Panel, drawn: Sequence[Series], line: tuple[float, str] | None) -> Any:
    values = [value for series in drawn for _, value in series.points] + ([line[0]] if line else [])
    low, high = panel.domain or (min(0, *values), max(0, *values))
    if low == high:
        high = 1
    steps = max(step for series in drawn for step, _ in series.points)
    whole_ticks = axis(max(1, min(5, round(steps))), "~s", "step")
    x = alt.X("x:Q", axis=whole_ticks, scale=alt.Scale(domain=[0, max(1, steps)], nice=False))
    scale = alt.Scale(domain=[low, high], nice=panel.domain is None)
    y = alt.Y("y:Q", axis=axis(4, _format(low, high), extent=34), scale=scale)
    lines = [
        alt.Chart(alt.Data(values=[{"x": step, "y": value} for step, value in _thin(series.points)]))
        .mark_line(
            stroke=COLOURS[i],
            strokeWidth=1.75,
            strokeDash=DASHES[i],
            strokeJoin="round",
            point=_dots(series, COLOURS[i]),
        )
        .encode(x=x, y=y)
        for i, series in enumerate(drawn)
    ]
    return alt.layer(*(_reference(line, y) if line else ()), *lines).properties(width=WIDTH, height=HEIGHT)


def _dots(series: Series, colour: str) -> Any:
    """Mark each point where there are few: a single logged step would else draw nothing."""
    return {"size": 16, "fill": colour, "stroke": colour} if len(series.points) <= 30 else False


def _reference(line: tuple[float, str], y: alt.Y) -> tuple[alt.Chart, alt.Chart]:
    base = alt.Chart(alt.Data(values=[{"y": line[0], "label": line[1]}]))
    text = base.mark_text(align="right", baseline="bottom", dx=-2, dy=-2, fill=MUTED, fontSize=11)
    return (
        base.mark_rule(stroke=MUTED, strokeDash=[2, 3], strokeWidth=1.25).encode(y=y),
        text.encode(x=alt.value(WIDTH), y=y, text="label:N"),
    )


def _thin(points: Sequence[Point]) -> Sequence[Point]:
    """Keep of each bucket of a long run the lowest and the highest point: peaks stay, nothing is averaged."""
    if len(points) <= MOST_POINTS:
        return points
    width = -(-2 * len(points) // MOST_POINTS)
    buckets = [points[i : i + width] for i in range(0, len(points), width)]
    kept = [{min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])} for bucket in buckets]
    return [points[0], *(point for pair in kept for point in sorted(pair)), points[-1]]


def _format(low: float, high: float) -> str:
    largest = max(abs(low), abs(high))
    return "~e" if largest < 1e-3 else "~s" if largest >= 10_000 else "~g"


def _alt_text(title: str, drawn: Sequence[Series], line: tuple[float, str] | None) -> str:
    """Describe a line chart: where each line starts, ends, and how far it went between."""
    told = [
        f"{series.name} {series.first} at step {compact(series.points[0][0])}, {series.last} at step "
        f"{compact(series.points[-1][0])}, lowest {compact(min(y for _, y in series.points))}, "
        f"highest {compact(max(y for _, y in series.points))}"
        for series in drawn
    ]
    reference = f" A dashed line marks {line[1]} ({compact(line[0])})." if line else ""
    return f"Line chart of {title} by step: {'; '.join(told)}.{reference}"


def _tidy(svg: str, alt_text: str) -> Markup:
    """Drop what a page does not need from a drawing, round its coordinates, and give it its alt text."""
    svg = re.sub(r' (?:aria-\w+|role|class|pointer-events|xmlns(?::\w+)?|version|font-family)="[^"]*"', "", svg)
    svg = re.sub(r'<path d="[^"]*" display="none"/>|<path d="M0,0h0v0h0Z"/>| opacity="1"', "", svg)
    svg = re.sub(r'"[^"<>]*\d\.\d{2,}[^"<>]*"', lambda attribute: _round(attribute[0]), svg)
    while (emptied := re.sub(r"<g[^<>]*></g>", "", svg)) != svg:
        svg = emptied
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
    svg = svg.replace(size[0] + " ", "", 1) if size else svg
    return Markup(svg.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(alt_text), 1))


def _round(attribute: str) -> str:
    return re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), attribute)
