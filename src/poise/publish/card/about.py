"""What a model card tells, gathered before a line of it is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from poise.publish.card.sources import Source, sources_of
from poise.publish.card.usage import Usage, usage_of
from poise.publish.licences import Licence, declared, of_dataset
from poise.publish.lineage import Lineage
from poise.report.evaluations import Evaluation

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class About:
    """What a card tells, gathered."""

    title: str
    called: str
    """The name by which it is loaded."""
    lineage: Lineage
    licence: str
    """Under which it is published; empty where it is not known."""
    base_licence: Licence | None
    sources: list[Source]
    evaluations: Sequence[Evaluation]
    results: Sequence[dict[str, Any]]
    """Those of them that are of this model, as they stand in their files."""
    usage: Usage
    answers: int
    """Questions shown with their answers."""
    with_rows: bool = True
    """Whether questions that are rows of the data are among them."""


def gather(
    lineage: Lineage,
    *,
    title: str,
    called: str,
    licence: str | None = None,
    evaluations: Sequence[Evaluation] = (),
    results: Sequence[dict[str, Any]] = (),
    answers: int = 6,
    with_rows: bool = True,
) -> About:
    """Collect what is known of a model."""
    base = declared(lineage.base) if lineage.base else None
    return About(
        title=title,
        called=called,
        lineage=lineage,
        licence=licence or (base.name if base else ""),
        base_licence=base,
        sources=sources_of(lineage, of_dataset),
        evaluations=evaluations,
        results=results,
        usage=usage_of(lineage.model, lineage.template_hash),
        answers=answers,
        with_rows=with_rows,
    )
