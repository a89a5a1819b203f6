"""A histogram of lengths as a drawing, with a dashed line at the recipe's cut, of which the caption tells."""

from typing import Any

import altair as alt

from poise.look.wording import lengths_of, rows_of
from poise.report.charts import COLOURS, HEIGHT, MUTED, WIDTH, Figure, axis, draw
from poise.report.wording import count


def figure(title: str, unit: str, found: dict[str, Any]) -> Figure:
    """Draw a histogram."""
    drawn = [_bars(unit, found), *([] if found["cut"] is None else [_line(found["cut"])])]
    chart = alt.layer(*drawn).properties(width=WIDTH, height=HEIGHT)
    alt_text = f"Histogram of {unit}, {title}, of {rows_of(found['rows'])}: {lengths_of(found)}."
    if found["cut"] is not None:
        alt_text += f" A dashed line marks the cut at {count(found['cut'])}."
    longer = f" {count(found['longer'])} of {count(found['rows'])} rows are longer." if found["longer"] else ""
    return Figure(title, (), draw(chart, alt_text), f"{lengths_of(found)}.{longer}")


def _bars(unit: str, found: dict[str, Any]) -> Any:
    edges, counts = found["edges"], found["counts"]
    shift = 0.5 if edges[1] == 1 else 0  # a bar of one number stands over that number, not right of it
    ends = [edge - shift for edge in edges]
    bars = [{"from": low, "to": high, "rows": rows} for low, high, rows in zip(ends, ends[1:], counts, strict=False)]
    lengths, ticks = alt.Scale(domain=[ends[0], ends[-1]], nice=False), max(1, min(4, max(counts)))
    return (
        alt.Chart(alt.Data(values=bars))
        .mark_rect(fill=COLOURS[0], stroke="var(--card)", strokeWidth=1)
        .encode(
            x=alt.X("from:Q", axis=axis(min(5, edges[-1]), "~s", unit), scale=lengths),
            x2="to:Q",
            y=alt.Y("rows:Q", axis=axis(ticks, "~s", "rows", extent=30), scale=alt.Scale(nice=ticks)),
            y2=alt.datum(0),
        )
    )


def _line(cut: int) -> Any:
    line = alt.Chart(alt.Data(values=[{"from": cut}])).mark_rule(stroke=MUTED, strokeDash=[4, 3], strokeWidth=1.5)
    return line.encode(x="from:Q")
