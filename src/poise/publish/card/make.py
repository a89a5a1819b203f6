"""`poise card`: the card of a run, a pipeline's folder, or a merged or quantized model, into a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poise.publish.card.about import About, gather
from poise.publish.card.write import card
from poise.publish.lineage import lineage_of
from poise.report.evaluations import read_evaluations
from poise.run import EVALUATION, write_whole

CARD = "README.md"
ANSWERS = 6


def make_card(
    path: Path,
    out: Path | None = None,
    *,
    title: str | None = None,
    licence: str | None = None,
    evaluations: Sequence[Path] = (),
    answers: int = ANSWERS,
) -> dict[str, Any]:
    """Write the card of what lies at `path` to `out`, by default README.md in it; returns what `--json` prints."""
    about = about_model(path, title=title, licence=licence, evaluations=evaluations, answers=answers)
    target = out or path / CARD
    text = card(about)
    write_whole(target, text)
    return {
        "card": str(target),
        "licence": about.licence or None,
        "template_verified": not about.usage.fault,
        "not_measured": text.count("not measured"),
    }


def about_model(
    path: Path,
    *,
    title: str | None = None,
    called: str | None = None,
    licence: str | None = None,
    evaluations: Sequence[Path] = (),
    answers: int = ANSWERS,
    with_rows: bool = True,
) -> About:
    """Gather what a card tells; RunError where there is no model, or an evaluation cannot be read."""
    read = read_evaluations(evaluations)
    lineage = lineage_of(path)
    its_own = {path.resolve(), lineage.model.resolve(), lineage.model.resolve().parent}
    results = [json.loads((folder / EVALUATION).read_text(encoding="utf-8")) for folder in evaluations]
    results = [result for result in results if Path(str(result["model"])).resolve() in its_own]
    name = title or path.resolve().name
    return gather(
        lineage,
        title=name,
        called=called or name,
        licence=licence,
        evaluations=read,
        results=results,
        answers=answers,
        with_rows=with_rows,
    )
