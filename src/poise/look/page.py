"""The facts of a look as one HTML file that needs no script, no network and no other file.

All texts are a dataset's, so every one is escaped, and the page forbids itself to load or run anything.
"""

from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from poise.look.figure import figure
from poise.look.shown import beginning
from poise.report.charts import Figure
from poise.report.report import VISIBLE
from poise.report.wording import count, percent


def page(facts: dict[str, Any]) -> str:
    """Write the facts that `look` returns."""
    templates = Environment(loader=PackageLoader("poise.look"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.filters.update(count=count, percent=percent)
    style, _, _ = PackageLoader("poise.report").get_source(templates, "style.css")
    written = templates.get_template("look.html.jinja").render(
        **facts,
        style=Markup(style),
        beginning=beginning,
        figures=_figures(facts),
        splits=list(dict.fromkeys(split for splits in facts["by_kind"].values() for split in splits)),
        most=max((each["rows"] for each in facts["dropped"]), default=1),
    )
    return written.translate(VISIBLE)


def _figures(facts: dict[str, Any]) -> dict[str, list[tuple[Figure, int | None]]]:
    """Draw the lengths by unit, each with its cut."""
    drawn = {
        unit: [(figure(part, unit, found), found["cut"]) for part, found in parts.items()]
        for unit, parts in facts["lengths"].items()
    }
    if facts["turns"]:
        drawn["turns"] = [(figure("without the system prompt", "turns", facts["turns"]), None)]
    return drawn
