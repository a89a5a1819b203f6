"""Charts of the dataset card: what became of each source's rows, and how long the written ones are; SVG by Altair.

    charts/sources.svg   for each source a bar of rows: kept, and left out by each stage
    charts/lengths.svg   for each kind of rows a histogram of words, or of tokens where a step counted them

They stand beside the card as files, where no page's colours reach, so they bring a light ground and their own.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from poise.curate.arrow import compute as pc
from poise.run import write_whole

KEPT = "kept"
COLOURS = ("#1d5fc4", "#c8c6bf", "#d9822b", "#8a5fb0", "#3f8f6b", "#b4453c", "#6f7f93", "#c9a227", "#557a2b", "#a8658c")
"""Of what is kept, then of stages in their order."""
WIDTH, BAR_HEIGHT, HEIGHT = 520, 20, 140
BARS, SHARE_DRAWN = 30, 0.995
SHORT = "datum.value == 0 ? '0' : format(datum.value, '~s')"
WORDS = r"\S+"
TOKENS = "tokens"


def draw_charts(folder: Path, counts: Mapping[str, Any], stages: Sequence[str]) -> list[tuple[str, str]]:
    """Write the charts of a dataset whose rows stand in `folder`; returns (file, what it shows) of each."""
    drawn = [("charts/sources.svg", *_sources(counts, stages)), *_lengths(folder / "data")]
    for file, chart, _ in drawn:
        (folder / file).parent.mkdir(exist_ok=True)
        write_whole(folder / file, _svg(chart))
    return [(file, told) for file, _, told in drawn]


def _sources(counts: Mapping[str, Any], stages: Sequence[str]) -> tuple[Any, str]:
    import altair as alt

    order = [KEPT, *dict.fromkeys(stages)]
    parts = [bar for source, found in counts["by_source"].items() for bar in bars(source, found, order)]
    seen = [name for name in order if any(bar["what"] == name for bar in parts)]
    chart = (
        alt.Chart(alt.Data(values=parts))
        .mark_bar()
        .encode(
            x=alt.X("rows:Q", title="rows made", axis=alt.Axis(labelExpr=SHORT, tickCount=6)),
            y=alt.Y("source:N", title=None, sort=list(counts["by_source"]), axis=alt.Axis(labelLimit=200)),
            color=alt.Color(
                "what:N", title=None, scale=alt.Scale(domain=seen, range=[_colour(order.index(name)) for name in seen])
            ),
            order="place:Q",
        )
        .properties(width=WIDTH, height=BAR_HEIGHT * len(counts["by_source"]))
    )
    told = "; ".join(
        f"{source}: {found['used']:,} of {found['made']:,} kept" for source, found in counts["by_source"].items()
    )
    return chart, f"Rows made of each source, kept or left out by a stage. {told}."


def bars(source: str, found: Mapping[str, Any], order: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the parts of a source's bar; what load left out never was a row."""
    by_stage = Counter({KEPT: found["used"]})
    for told, rows in found["dropped"].items():
        by_stage[told.partition(": ")[0]] += rows
    for place, name in enumerate(order):
        if by_stage[name] and name != "load":
            yield {"source": source, "what": name, "rows": by_stage[name], "place": place}


def _colour(place: int) -> str:
    return COLOURS[0] if place == 0 else COLOURS[1 + (place - 1) % (len(COLOURS) - 1)]


def _lengths(data: Path) -> list[tuple[str, Any, str]]:
    import altair as alt

    found = {kind.name: lengths(sorted(kind.glob("*.parquet"))) for kind in sorted(data.iterdir())}
    charts = [_histogram(kind.replace("_", " "), unit, counts) for kind, (unit, counts) in found.items()]
    told = "; ".join(
        f"{kind.replace('_', ' ')}: median {int(np.median(counts)):,} {unit}, longest {int(counts.max()):,}"
        for kind, (unit, counts) in found.items()
    )
    return [("charts/lengths.svg", alt.vconcat(*charts), f"Length of the written rows. {told}.")]


def lengths(files: Sequence[Path]) -> tuple[str, np.ndarray]:
    """Return the unit and the length of every row: tokens where they were counted, else words of all its texts."""
    parts: list[np.ndarray] = []
    unit = TOKENS if TOKENS in pq.read_schema(files[0]).names else "words"
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(8192):
            column = batch.column(TOKENS) if unit == TOKENS else _words(batch)
            parts.append(np.asarray(pc.fill_null(column, 0)))
    return unit, np.concatenate(parts)


def _words(batch: pa.RecordBatch) -> Any:
    """Count the words of each row's text or turns, rejected ones too."""
    total = np.zeros(len(batch), np.int64)
    for name in ("text", "messages", "prompt", "chosen", "rejected", "answers"):
        if name in batch.schema.names:
            column, owner = batch.column(name), np.arange(len(batch))
            while pa.types.is_list(column.type):
                owner = owner[np.asarray(pc.list_parent_indices(column))]
                column = pc.list_flatten(column)
            texts = column.field("content") if pa.types.is_struct(column.type) else column
            counts = np.asarray(pc.fill_null(pc.count_substring_regex(texts, WORDS), 0))
            np.add.at(total, owner, counts)
    return pa.array(total)


def _histogram(title: str, unit: str, lengths: np.ndarray) -> Any:
    import altair as alt

    usual = float(np.quantile(lengths, SHARE_DRAWN, method="inverted_cdf"))
    counts, edges = np.histogram(lengths[lengths <= usual], bins=min(BARS, int(usual) + 1), range=(0, usual + 1))
    bars = [
        {"from": low, "to": high, "rows": rows}
        for low, high, rows in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    ]
    longer = int((lengths > usual).sum())
    more = f", {longer:,} longer ones not drawn" if longer else ""
    return (
        alt.Chart(alt.Data(values=bars), title=f"{title}: {len(lengths):,} rows{more}")
        .mark_rect(fill=COLOURS[0], stroke="white", strokeWidth=1)
        .encode(
            x=alt.X("from:Q", title=unit, axis=alt.Axis(labelExpr=SHORT, tickCount=6), scale=alt.Scale(nice=False)),
            x2="to:Q",
            y=alt.Y("rows:Q", title="rows", axis=alt.Axis(labelExpr=SHORT, tickCount=4)),
            y2=alt.datum(0),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )


def _svg(chart: Any) -> str:
    import vl_convert

    style = {"domain": False, "ticks": False, "gridColor": "#e4e2db", "labelColor": "#55585e", "titleColor": "#55585e"}
    themed = (
        chart.configure(background="white", padding=10)
        .configure_axis(**style, titleFontWeight="normal", labelFontSize=11, titleFontSize=11)
        .configure_view(stroke=None)
        .configure_title(anchor="start", fontSize=12)
        .configure_legend(orient="top", labelFontSize=11)
    )
    return vl_convert.vegalite_to_svg(themed.to_dict()) + "\n"
