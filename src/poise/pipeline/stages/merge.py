"""Merge as a stage: the newest adapter into its base, compared with the unmerged model before it is kept."""

from typing import Any, Literal

from pydantic import Field

from poise.errors import RecipeError
from poise.pipeline.file import Step
from poise.pipeline.work import Chain, Keys, NothingBefore, Work, checked, local

MAIN_KEY = "dtype"


class MergeKeys(Keys):
    """What is written, and how near it has to be."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """That of the base by default."""
    tolerance: float | None = Field(default=None, ge=0)


def plan(step: Step, chain: Chain) -> Work:
    """Resolve a merge."""
    keys = checked(step, MergeKeys)
    if not chain.trained:
        raise NothingBefore("no stage before it trains an adapter\n    to do:  write `merge` after a training")
    trained = chain.trained[-1]
    if not chain.is_adapter:
        raise RecipeError(
            f"{trained.stage} trains all weights, so there is nothing to merge\n"
            "    to do:  leave `merge` out, or train with use_peft: true"
        )

    def run(resume: bool) -> dict[str, Any]:
        from poise.publish.merge import merge

        made = merge(trained.folder, step.folder, dtype=keys.dtype, tolerance=keys.tolerance, overwrite=True)
        return {key: made[key] for key in ("largest_logit_difference", "same_answers", "prompts")}

    return Work(
        values=keys.model_dump(),
        reads=local(str(trained.folder / "model"), str(trained.folder / "samples.jsonl")),
        writes=(step.folder,),
        after=chain.with_folder(step.folder, model=str(step.folder), made_by=step.name, is_adapter=False),
        run=run,
    )
