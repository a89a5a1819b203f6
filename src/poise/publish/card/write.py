"""A model card from evidence alone: every number in it stands in a file that poise wrote; the rest says "not measured".

base and licence, data, recipe, hardware, tokens, wall time · scores with intervals and counts · answers before and
after · limits · how to use, tried · how to make it again, with hashes · `model-index` for the Hub
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from poise.publish.card.about import NOT_MEASURED, About
from poise.publish.card.evidence import answers, changed, limits, scores
from poise.publish.card.index import eval_results, slug
from poise.publish.card.making import again, data, is_number, licence_told, machine, made, path_end, training, verb
from poise.publish.card.markdown import inline, table
from poise.publish.card.sources import is_hub_id
from poise.publish.card.use import use
from poise.report.wording import count, duration
from poise.secrets import redacted

IDENTIFIER = re.compile(r"(?:apache|mit|bsd|cc-by|cc0|[al]?gpl|mpl|llama|gemma|openrail|odc|gfdl|afl)[a-z0-9.-]*")
"""Licences that the Hub knows by these names; others are `other`, with their name beside it."""


def card(about: About) -> str:
    """Write the card, with the front matter that the Hub reads."""
    parts = [
        f"# {inline(about.title)}",
        "Every number here was read from what the training, the curation and the evaluations wrote. What nothing was "
        f"written of says “{NOT_MEASURED}”.",
        _glance(about),
        "## What changed",
        changed(about.lineage.trainings),
        "## Evaluation",
        scores(about),
        "## Answers before and after",
        answers(about),
        "## Data",
        data(about),
        "## Training",
        training(about.lineage),
        *made(about.lineage.made),
        "## Limits",
        limits(about),
        "## How to use it",
        use(about),
        "## How to make it again",
        again(about.lineage),
    ]
    return without_paths(redacted(_front_matter(about) + "\n\n".join(parts) + "\n"))


def without_paths(text: str) -> str:
    """Leave out where on this machine things lay: the working folder's path and the home folder's."""
    for path, instead in ((f"{Path.cwd()}{os.sep}", ""), (str(Path.home()), "~")):
        if len(path) > 1:
            text = text.replace(path, instead).replace(inline(path, 10_000), instead)
    return text


def _front_matter(about: About) -> str:
    """Write the YAML block; huggingface_hub quotes what stands in it."""
    from huggingface_hub import ModelCardData

    last = about.lineage.trainings[-1] if about.lineage.trainings else None
    adapter = (about.lineage.model / "adapter_config.json").is_file()
    known = about.licence if IDENTIFIER.fullmatch(about.licence.lower()) else ""
    data = ModelCardData(
        base_model=about.lineage.base if is_hub_id(about.lineage.base) else None,
        license=known.lower() or ("other" if about.licence else None),
        license_name=None if known or not about.licence else slug(about.licence),
        datasets=[each.hub for each in about.sources if each.hub] or None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["poise", *dict.fromkeys(slug(stage.name) for stage in about.lineage.trainings)],
        model_name=slug(about.title),
        eval_results=eval_results(last, about.results) or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _glance(about: About) -> str:
    trainings = about.lineage.trainings
    tokens = [stage.manifest.get("tokens_seen") for stage in trainings]
    seconds = [stage.manifest.get("seconds") for stage in trainings]
    facts = {
        "base model": path_end(about.lineage.base) if about.lineage.base else NOT_MEASURED,
        "licence of the base": licence_told(about.base_licence),
        "licence of this model": about.licence or "not declared",
        "made by": " → ".join(_stages(about)) or NOT_MEASURED,
        "tokens trained on": _sum(tokens, count),
        "hardware": machine(trainings[-1]) if trainings else NOT_MEASURED,
        "wall time of training": _sum(seconds, duration),
    }
    return table(("at a glance", ""), facts.items())


def _stages(about: About) -> list[str]:
    lineage = about.lineage
    curated = ["curate"] if lineage.curations else []
    return [*curated, *(stage.name for stage in lineage.trainings), *map(verb, lineage.made)]


def _sum(values: Sequence[Any], told: Callable[[Any], str]) -> str:
    """Add up what every training says; not measured where one does not."""
    return told(sum(values)) if values and all(map(is_number, values)) else NOT_MEASURED
