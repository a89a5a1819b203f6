"""`poise publish`: the plan first, then, where the person agrees, exactly what it says."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from poise.publish.card.make import ANSWERS, about_model
from poise.publish.collect import collect
from poise.publish.dataset import plan_dataset
from poise.publish.lineage import CURATION, RECORD
from poise.publish.plan import Plan
from poise.publish.send import send
from poise.publish.target import read_target
from poise.run import MANIFEST


def publish(
    what: Path,
    to: str,
    agrees: Callable[[Plan], bool],
    *,
    public: bool = False,
    title: str | None = None,
    licence: str | None = None,
    base: str | None = None,
    evaluations: Sequence[Path] = (),
    answers: int | None = None,
) -> dict[str, Any]:
    """Plan a run's model, a model's folder or a curated dataset, and send it where `agrees` says so of the plan.

    Unless `answers` is given, the card shows none whose question is a row of the data.
    """
    target = read_target(to)
    if (what / CURATION).is_file() and not any((what / name).is_file() for name in (MANIFEST, RECORD)):
        plan = plan_dataset(what, target, public=public)
    else:
        name = title or (target.path if target.is_folder else Path(target.name)).name
        called = name if target.is_folder else target.name
        about = about_model(
            what,
            title=name,
            called=called,
            licence=licence,
            evaluations=evaluations,
            answers=ANSWERS if answers is None else answers,
            with_rows=answers is not None,
        )
        plan = collect(about, target, public=public, base=base)
    if not agrees(plan):
        return plan.to_json() | {"published": False}
    return plan.to_json() | {"published": True} | send(plan)
