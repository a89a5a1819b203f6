"""Curate as a stage: a curation recipe, its keys, or both; what it writes is what later trainings read."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from poise.pipeline.file import Step
from poise.pipeline.work import Chain, Dataset, Work, local
from poise.recipe_yaml import YamlText, read_recipe_file

MAIN_KEY = "recipe"
WORDS = ("name", "title", "source", "stratify")
"""Keys whose text is never a path."""


def plan(step: Step, chain: Chain) -> Work:
    """Resolve a curation."""
    from poise.curate.curation import read_curation

    text = read_recipe_file(step.recipe) if step.recipe else YamlText({})
    text = text.with_keys_of(step.keys)
    text.values["out"] = str(step.folder)
    curation = read_curation(text, step.recipe.name if step.recipe else chain.pipeline.path.name)
    has_test = curation.split is not None or any(entry.held_out for entry in curation.sources)
    datasets = (*chain.datasets, Dataset(step.name, step.folder, has_test))
    values = curation.model_dump(mode="json", exclude={"out"})

    def run(resume: bool) -> dict[str, Any]:
        from poise.curate.pipeline import curate

        counts = curate(curation)
        return {key: counts[key] for key in ("in", "used")}

    return Work(
        values=values,
        reads=local(*_texts(values["sources"]), *_texts(values["steps"])),
        writes=(step.folder / "data",),
        after=replace(chain, datasets=datasets, folders=(*chain.folders, step.folder)),
        run=run,
    )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text that may name a file."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            if key not in WORDS:
                yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
