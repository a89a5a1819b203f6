"""Evaluate as a stage: every model so far answers the same questions, so that they can be laid side by side.

The questions are the stage's, else the pipeline's, else the prompts that the last training chose from its rows. An
answer that a training has kept, to the same question and of the same length, is not generated again. Benchmarks,
judges and held-out pairs are asked for beside them, by the name of their command.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from poise.errors import RecipeError
from poise.pipeline.file import Step
from poise.pipeline.measured import KINDS, Measured, measured
from poise.pipeline.work import Chain, Keys, NothingBefore, Trained, Work, checked, local
from poise.run import EVALUATION

MAIN_KEY = "questions"
BEFORE = "before"
"""The label of the model that the first training starts from."""


class AskKeys(Keys):
    """What is asked, and how long an answer may be."""

    questions: str | None = None
    max_new_tokens: int | None = Field(default=None, ge=1)
    """The last training's where it is not given."""


BESIDE: dict[str, Any] = dict.fromkeys(KINDS, (dict[str, Any] | None, None))
EvaluateKeys = create_model("EvaluateKeys", __base__=AskKeys, **BESIDE)
"""These, and the options of each evaluation that is made beside."""


@dataclass(frozen=True)
class Asked:
    """A model that answers."""

    label: str
    name: str
    """A folder, or the base model's name."""
    by: Trained
    """The training that asked it already, with its recipe."""
    moment: str
    """`before` or `after` that training."""


def plan(step: Step, chain: Chain) -> Work:
    """Resolve an evaluation of every trained model."""
    keys = checked(step, EvaluateKeys)
    if not chain.trained:
        raise NothingBefore("no stage before it trains a model\n    to do:  write `evaluate` after a training")
    questions = keys.questions or chain.pipeline.questions
    length = keys.max_new_tokens or chain.trained[-1].recipe.poise.max_new_tokens
    models = list(_models(chain.trained))
    kept = (each.by.folder / "answers" for each in models)
    beside = {kind: own for kind in KINDS if (own := getattr(keys, kind)) is not None}
    measures = [one for kind, own in beside.items() for one in _measures(kind, own, models, step.folder)]
    files = [str(value) for one in measures for value in one.options.values() if isinstance(value, str | Path)]
    return Work(
        values={"questions": questions, "max_new_tokens": length, "models": [each.label for each in models]} | beside,
        reads=tuple(dict.fromkeys(local(questions, *(each.name for each in models), *map(str, kept), *files))),
        writes=(
            step.folder / "samples.jsonl",
            step.folder / "evidence.json",
            *(one.folder / EVALUATION for one in measures),
        ),
        after=replace(chain, evidence=step.folder, evaluations=tuple(one.folder for one in measures)),
        run=lambda resume: _run(step.folder, models, questions, length) | _measure(measures),
    )


def _measures(kind: str, keys: dict[str, Any], models: list[Asked], folder: Path) -> Iterator[Measured]:
    """Resolve an evaluation of every model; where no pairs are named, of those that held some out."""
    held_out_only = kind == "preferences" and not keys.get("data")
    for each in models:
        is_trained = each.moment == "after"
        if held_out_only and not (is_trained and "preference_pair" in each.by.recipe.objective.rows):
            continue
        # a training's own folder tells its reference and what it held out; the others read the model alone
        model = str(each.by.folder) if kind == "preferences" and is_trained else each.name
        yield measured(
            kind,
            keys,
            label=each.label,
            model=model,
            folder=folder / kind / each.label,
            template=each.by.recipe.model.chat_template,
        )


def _measure(measures: list[Measured]) -> dict[str, Any]:
    return {f"{one.kind} {one.label}": one.run()["tables"] for one in measures}


def _models(trained: tuple[Trained, ...]) -> Iterator[Asked]:
    first = trained[0]
    yield Asked(BEFORE, first.recipe.model.model_name_or_path, first, "before")
    for each in trained:
        yield Asked(each.label, str(each.folder / "model"), each, "after")


def _run(folder: Path, models: list[Asked], file: str | None, length: int) -> dict[str, Any]:
    from poise.evaluate.generate import Answer
    from poise.evaluate.questions import load_questions, questions_of_samples
    from poise.run import Run
    from poise.workflow import Evidence, write_evidence

    last = models[-1].by
    questions = load_questions(Path(file)) if file else questions_of_samples(Run(last.folder).samples())
    if not questions:
        raise RecipeError(
            f"{last.stage} has asked nothing, so there is nothing to evaluate on\n"
            "    to do:  write `questions: FILE` in the pipeline, or question_count above 0"
        )

    def answers(one: Asked) -> list[Answer]:
        recipe = one.by.recipe
        alike = recipe.poise.questions == file and recipe.poise.max_new_tokens == length
        own = Evidence(recipe, Run(one.by.folder)).read(one.moment) if alike and (file or one.by == last) else []
        return own if len(own) == len(questions) else _ask(one, questions, length)

    evidence = write_evidence(folder, questions, {each.label: answers(each) for each in models})
    return {each["name"]: each["scores"] for each in evidence["sets"]}


def _ask(one: Asked, questions: list[Any], length: int) -> list[Any]:
    from poise.evaluate.generate import answer
    from poise.train.answering import load_answering

    model, renderer = load_answering(one.by.recipe, one.name)
    return answer(model, renderer, questions, max_new_tokens=length, label=one.label)
