"""Steps against one another: warmup, checkpoints, evaluations and rows within the updates that a run makes."""

import math
from collections.abc import Iterator

from poise.preflight.finding import Finding
from poise.preflight.known import Known

FEW_UPDATES = 10


def check_schedule(known: Known) -> Iterator[Finding]:
    """Compare what happens every so many steps with the number of steps."""
    steps, training = known.steps, known.recipe.training
    if steps < 1:
        return
    warmup = float(training["warmup_steps"])
    if warmup >= max(2, steps) and training["lr_scheduler_type"] != "constant":
        yield Finding("W103", f"{warmup:g} steps of warmup, and the run makes {steps:,} updates")
    if steps < FEW_UPDATES:
        yield Finding("N104", f"{steps:,} updates of {known.rows_per_step:,} rows")
    if _is_said(known, "save_steps") and training["save_strategy"] == "steps" and _first(known, "save_steps") > steps:
        yield Finding("N105", f"save_steps {training['save_steps']:g}, and the run makes {steps:,} updates")
    if training["eval_strategy"] == "steps" and not training.get("eval_on_start"):
        key = "eval_steps" if training.get("eval_steps") else "logging_steps"
        if _first(known, key) > steps:
            yield Finding("N106", f"{key} {training[key]:g}, and the run makes {steps:,} updates")
    yield from _unseen(known)


def _unseen(known: Known) -> Iterator[Finding]:
    if int(known.recipe.training.get("max_steps", -1)) <= 0 or not known.rows:
        return
    seen = known.steps * known.rows_per_step
    if seen < known.rows_to_train:
        yield Finding("N107", f"{known.steps:,} updates see {seen:,} of {known.rows_to_train:,} rows")


def _first(known: Known, key: str) -> int:
    """Return the step at which something happens first; below 1 it is a share of all."""
    every = float(known.recipe.training[key])
    return int(every) if every >= 1 else math.ceil(every * known.steps)


def _is_said(known: Known, key: str) -> bool:
    return known.recipe.origins[key].kind != "default"
