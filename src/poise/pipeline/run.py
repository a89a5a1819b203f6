"""Run a pipeline: every stage is resolved before the first one starts, and made only where something has changed."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poise import progress
from poise.errors import InterruptedRun, RecipeError
from poise.names import did_you_mean, load_named, names_in
from poise.pipeline.file import STAGES, Pipeline, Step, read_pipeline, refuse
from poise.pipeline.record import Record, digest
from poise.pipeline.work import Chain, Dataset, NothingBefore, Work
from poise.run import Run


@dataclass(frozen=True)
class Decision:
    """A resolved stage, and why it has to be made."""

    step: Step
    work: Work
    values: str
    reads: dict[str, str]
    why: str | None
    """None where it is there already."""

    def to_json(self) -> dict[str, Any]:
        """Return what is told of it."""
        return {"stage": self.step.name, "does": "skip" if self.why is None else "run", "why": self.why or "unchanged"}


def run_pipeline(
    path: Path, overrides: Sequence[str] = (), *, start: str | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """Make what is not made yet; `start` names a stage that is made again, with all after it.

    Raises RecipeError, before anything starts, with everything wrong in the file and in the recipes of its stages.
    """
    _refuse_launcher()
    pipeline = read_pipeline(path, overrides)
    if not pipeline.faults and start is None:
        record = Record(pipeline.out)
        if record.is_finished(pipeline, overrides):
            return _nothing_to_do(pipeline, record)
    _check_all(pipeline)
    first = _start(pipeline, start)
    if dry_run:
        return {"out": str(pipeline.out), "stages": _foreseen(pipeline, first)}
    lock = Run(pipeline.out)
    lock.lock()
    try:
        return _run(pipeline, overrides, first)
    finally:
        lock.unlock()


def _check_all(pipeline: Pipeline) -> None:
    """Resolve every stage, so that a wrong key in the last one stops before the first."""
    chain, told = _begin(pipeline), list[str]()
    for step in pipeline.steps:
        try:
            chain = plan(step, chain).after
        except NothingBefore as error:
            if not told and not pipeline.faults:
                told.append(f"{step.name}: {error}")
        except RecipeError as error:
            told.append(f"{step.name}: {error}")
            chain = _assuming(step, chain)
    refuse(pipeline, told)


def _assuming(step: Step, chain: Chain) -> Chain:
    """Go on as if a stage that is wrong were right, so that those after it are checked too."""
    if step.verb == "curate":
        return replace(chain, datasets=(*chain.datasets, Dataset(step.name, step.folder, True)))
    return chain if step.verb in names_in(STAGES) else replace(chain, model=str(step.folder / "model"))


def _begin(pipeline: Pipeline) -> Chain:
    return Chain(pipeline, pipeline.model, pipeline.path.name)


def plan(step: Step, chain: Chain) -> Work:
    """Resolve a stage by the file of its verb; an objective is a training."""
    if step.verb in names_in(STAGES):
        return load_named(STAGES, step.verb).plan(step, chain)
    from poise.pipeline import training

    return training.plan(step, chain)


def _start(pipeline: Pipeline, start: str | None) -> int:
    """Return the place of the stage that `--from` names, by its name, verb or number; past the last one without it."""
    if start is None:
        return len(pipeline.steps)
    for index, step in enumerate(pipeline.steps):
        if start in (step.name, step.verb, str(index + 1)):
            return index
    names = [step.name for step in pipeline.steps]
    known = [*names, *(step.verb for step in pipeline.steps)]
    raise RecipeError(f"--from {start}: no such stage{did_you_mean(start, known)}; there are {', '.join(names)}")


def _decide(step: Step, chain: Chain, record: Record, *, again: bool) -> Decision:
    work = plan(step, chain)
    values, reads = digest(work.values), record.contents(work.reads)
    return Decision(step, work, values, reads, "asked for by --from" if again else record.why_run(step, values, reads))


def _run(pipeline: Pipeline, overrides: Sequence[str], first: int) -> dict[str, Any]:
    record, chain, told = Record(pipeline.out), _begin(pipeline), list[dict[str, Any]]()
    for index, step in enumerate(pipeline.steps):
        made = _decide(step, chain, record, again=index >= first)
        told.append(made.to_json())
        if made.why is None:
            progress.say(f"{step.name}: skip (unchanged)")
        else:
            progress.say(f"\n{step.name}: run ({made.why})")
            _make(made, pipeline, record, go_on=index < first)
        chain = made.work.after
    record.close(pipeline, overrides)
    return _result(pipeline, record, told)


def _make(made: Decision, pipeline: Pipeline, record: Record, *, go_on: bool) -> None:
    """Make one stage; it goes on where it was begun of the same things."""
    resume = go_on and record.can_go_on(made.step, made.values, made.reads)
    record.begin(made.step, made.values, made.reads)
    began = time.monotonic()
    try:
        facts = made.work.run(resume)
    except InterruptedRun as stop:
        said = str(stop).partition("\n")[0].removeprefix("stopped ")
        raise InterruptedRun(
            f"stopped in stage {made.step.name}: {said}\n    to do:  poise run {pipeline.path} goes on there"
        ) from None
    record.finish(made.step, made.work.writes, time.monotonic() - began, facts)


def _foreseen(pipeline: Pipeline, first: int) -> list[dict[str, Any]]:
    """Say what would be done; a stage after one that is made has to be decided then."""
    record, chain, told = Record(pipeline.out), _begin(pipeline), list[dict[str, Any]]()
    before = ""
    for index, step in enumerate(pipeline.steps):
        made = _decide(step, chain, record, again=index >= first)
        line = made.to_json()
        if before and made.why is None:
            line |= {"does": "run", "why": f"after {before}, unless that makes the same again"}
        before = before or (step.name if made.why is not None else "")
        told.append(line)
        chain = made.work.after
    return told


def _nothing_to_do(pipeline: Pipeline, record: Record) -> dict[str, Any]:
    told = [{"stage": name, "does": "skip", "why": "unchanged"} for name in record.stages]
    progress.say(f"{pipeline.out}: all {len(told)} stages are done and nothing has changed")
    return _result(pipeline, record, told)


def _result(pipeline: Pipeline, record: Record, told: list[dict[str, Any]]) -> dict[str, Any]:
    page = pipeline.out / "report.html"
    pages = [step.name for step in pipeline.steps if step.verb == "report"]
    verdict = record.stages[pages[-1]].get("facts", {})
    for line in told:
        line["seconds"] = record.stages[line["stage"]].get("seconds")
    progress.say(f"report: {page}")
    return {"out": str(pipeline.out), "stages": told, **verdict, "report": str(page)}


def _refuse_launcher() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "poise run is one process, and a launcher has started several\n"
            "    why:    stages that train nothing would be made by each of them\n"
            "    to do:  start single stages with the launcher: accelerate launch -m poise sft recipe.yaml"
        )
