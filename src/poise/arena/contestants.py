"""Who competes: a model that answers while people vote, or answers that `poise evaluate generate` wrote.

    runs/dpo                  the model of a run
    my-adapter, Org/name      a folder or Hub id
    http://…/v1#name          a served model
    evaluations/dpo           a folder with samples.jsonl, or such a file: every model in it
    evaluations/all#dpo       one of them

Each may be called by another name: LABEL=runs/dpo.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from poise.answering import is_served, labelled, open_engine
from poise.errors import DataError, RecipeError
from poise.evaluate.answer import Answer, Sampling
from poise.evaluate.engine import Engine
from poise.evaluate.journal import content_key
from poise.evaluate.questions import Question, questions_of_samples
from poise.run import MANIFEST, SAMPLES, read_lines


@dataclass(frozen=True)
class Contestant:
    """One model under the name by which the tally knows it."""

    label: str
    identity: dict[str, Any]
    """All that decides the answers of a model; of written answers, that they are."""
    engine: Engine | None = None
    """What answers; None where the answers are written."""
    written: Mapping[str, Answer] = field(default_factory=dict[str, Answer])
    """Answers by the key of their question."""


def key_of(question: Question) -> str:
    """Name a question by what is asked, so that one question in two files is one."""
    return content_key([[asdict(message) for message in question.prompt], question.text])


def open_contestants(
    names: Sequence[str], folder: Path, sampling: Sampling, *, chat_template: str | None, batch_size: int
) -> tuple[list[Contestant], list[Question]]:
    """Open all; returns them and the questions that written answers answer, in the order of their files.

    Raises:
        RecipeError: fewer than two, or two of one name.
    """
    labels = _labels(names)
    if len(labels) < 2:
        raise RecipeError(
            f"an arena needs two models, got {', '.join(labels) or 'none'}\n    to do:  poise arena MODEL-A MODEL-B"
        )
    opened: list[Contestant] = []
    questions: dict[str, Question] = {}
    for label, (name, written) in labels.items():
        if written is not None:
            samples = [sample for sample in written if label_in(sample, name) is not None]
            asked = questions_of_samples(samples)
            answers = {
                key_of(each): Answer(**(label_in(row, name) or {})) for each, row in zip(asked, samples, strict=True)
            }
            questions |= {key_of(question): question for question in asked}
            opened.append(Contestant(label, {"answers": "written"}, written=answers))
        else:
            engine = open_engine(name, folder, chat_template=chat_template, batch_size=batch_size)
            opened.append(Contestant(label, {**engine.identity, "sampling": asdict(sampling)}, engine))
    return opened, list(questions.values())


def check_answered(contestants: Iterable[Contestant], questions: Sequence[Question]) -> None:
    """Refuse questions that written answers leave out; DataError names the first."""
    for contestant in contestants:
        lacking = [each for each in questions if contestant.engine is None and key_of(each) not in contestant.written]
        if lacking:
            raise DataError(
                f"{contestant.label} has no answer to {len(lacking)} of {len(questions)} questions, the first: "
                f"{_shown(lacking[0])!r}\n"
                "    to do:  answer them with `poise evaluate generate`, or name the questions that all answered by "
                "--questions"
            )


def label_in(sample: dict[str, Any], label: str) -> dict[str, Any] | None:
    """Return one model's answer of a line of samples.jsonl."""
    return (sample.get("answers") or {}).get(label)


def _labels(names: Sequence[str]) -> dict[str, tuple[str, list[dict[str, Any]] | None]]:
    """Return by label the name of a model, or a model's name in written answers and these."""
    found: list[tuple[str, str, list[dict[str, Any]] | None]] = []
    for text in names:
        ((label, name),) = labelled([text]).items()
        file, _, chosen = name.partition("#")
        samples = None if is_served(name) else _samples(Path(file))
        if samples is None:
            found.append((label, name, None))
            continue
        there = list(dict.fromkeys(each for sample in samples for each in sample.get("answers") or {}))
        if chosen and chosen not in there:
            raise DataError(f"{file} holds no answers of {chosen!r}, but of {', '.join(there)}")
        renamed = "=" in text and len([chosen] if chosen else there) == 1
        found += [(label if renamed else each, each, samples) for each in ([chosen] if chosen else there)]
    twice = sorted({label for label, _, _ in found if sum(label == other for other, _, _ in found) > 1})
    if twice:
        raise RecipeError(
            f"two contestants are called {twice[0]!r}\n    to do:  name them apart: poise arena one=… other=…"
        )
    return {label: (name, samples) for label, name, samples in found}


def _samples(path: Path) -> list[dict[str, Any]] | None:
    """Read written answers; None where a name stands for something else."""
    file = path / SAMPLES if path.is_dir() and not (path / MANIFEST).is_file() else path
    if not file.is_file() or file.suffix != ".jsonl":
        return None
    try:
        samples = list(read_lines(file))
        questions_of_samples(samples)
        for sample in samples:
            for label in sample["answers"]:
                Answer(**sample["answers"][label])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{file} holds no answers that can be read ({error!r})\n"
            "    to do:  name a folder or a samples.jsonl that `poise evaluate generate` wrote"
        ) from None
    return samples


def _shown(question: Question) -> str:
    return (question.prompt[-1].content if question.prompt else question.text)[:80]
