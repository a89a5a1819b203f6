"""Let a model and its export do the same, and lay it side by side.

questions ──> prompts, rendered by both sides ──> greedy answers of both
                 └ prompt + the model's own answer, read by both: do they take the same next token?
rows ──────────> read by both: perplexity over what the loss counted
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poise import progress
from poise.evaluate.questions import Question
from poise.publish.material import LONGEST, Material, Text
from poise.publish.rehearsal import Rehearsal, Tolerance
from poise.publish.sides import Reading, Side
from poise.run import now

NEW_TOKENS = 48
OWN_ANSWERS = "the model's own answers"


@dataclass(frozen=True)
class Seen:
    """What one side did."""

    name: str
    questions: list[Question]
    prompts: list[list[int]]
    """As this side renders them."""
    answers: list[list[int]]
    readings: list[Reading]
    """Of each prompt with the model's answer, from the answer's first token on."""
    logps: list[float]
    """Of the tokens that perplexity is measured over, in nats."""
    stops: list[int]


def look(side: Side, material: Material, stop_ids: Sequence[int]) -> Seen:
    """Let the model do everything first; questions that it cannot be asked are left out."""
    prompts = [side.prompt(question) for question in material.questions]
    askable = [index for index, ids in enumerate(prompts) if 0 < len(ids) <= LONGEST]
    return _look(
        side, material.rows, stop_ids, [material.questions[index] for index in askable],
        [prompts[index] for index in askable], None, "the model",
    )  # fmt: skip


def look_again(side: Side, material: Material, stop_ids: Sequence[int], before: Seen) -> Seen:
    """Let the export do the same: the tokens that it is fed are the model's, whatever it would make of the prompts."""
    seen = _look(side, material.rows, stop_ids, before.questions, before.prompts, before.answers, "the export")
    rendered = [side.prompt(question) for question in before.questions]
    return Seen(seen.name, seen.questions, rendered, seen.answers, seen.readings, seen.logps, seen.stops)


def _look(
    side: Side, rows: Sequence[Text], stop_ids: Sequence[int], questions: list[Question], prompts: list[list[int]],
    answers: list[list[int]] | None, label: str,
) -> Seen:  # fmt: skip
    with progress.stage(f"rehearse {label}", len(prompts) + len(rows)) as stage:
        said = side.answer(prompts, NEW_TOKENS)
        given = said if answers is None else answers
        readings: list[Reading] = []
        for prompt, answer in zip(prompts, given, strict=True):
            readings.append(_from(side.read([*prompt, *answer]), len(prompt) - 1))
            stage.advance(len(readings))
        logps: list[float] = []
        for index, row in enumerate(rows):
            logps += side.read(row.ids).logps[[place - 1 for place in _counted(row)]].tolist()
            stage.advance(len(prompts) + index + 1)
    logps = logps or [value for reading in readings for value in reading.logps.tolist()]
    return Seen(side.name, questions, prompts, said, readings, logps, side.stops_at(stop_ids))


def _counted(row: Text) -> list[int]:
    return [place for place, trained in enumerate(row.trained) if trained and place]


def _from(reading: Reading, start: int) -> Reading:
    return Reading(reading.likeliest[start:], reading.logps[start:])


def compared(
    before: Seen, after: Seen, material: Material, tokenizer: Any, stop_ids: Sequence[int], tolerance: Tolerance,
    facts: dict[str, Any],
) -> Rehearsal:  # fmt: skip
    """Make the record; `facts` are its `format`, `model`, `files` and `notes`."""
    pairs = list(zip(before.readings, after.readings, strict=True))
    tokens = sum(len(one.likeliest) for one, _ in pairs)
    agreeing = sum(int((one.likeliest == other.likeliest).sum()) for one, other in pairs)
    return Rehearsal(
        created=now(),
        rehearsed_by=after.name,
        prompts=len(before.prompts),
        tokens=tokens,
        agreement=agreeing / tokens if tokens else float("nan"),
        same_answers=sum(one == other for one, other in zip(before.answers, after.answers, strict=True)),
        perplexity=(perplexity(before.logps), perplexity(after.logps)),
        perplexity_over=f"{material.described}, {len(before.logps):,} tokens" if material.rows else OWN_ANSWERS,
        stop_rate=(_stopped(before.answers, stop_ids), _stopped(after.answers, stop_ids)),
        same_templates=sum(one == other for one, other in zip(before.prompts, after.prompts, strict=True)),
        stop_tokens=(
            tokenizer.convert_ids_to_tokens(list(stop_ids)),
            tokenizer.convert_ids_to_tokens(after.stops),
        ),
        tolerance=tolerance,
        answers=[
            {"id": question.id, "before": _said(tokenizer, one), "after": _said(tokenizer, other)}
            for question, one, other in zip(before.questions, before.answers, after.answers, strict=True)
        ],
        **facts,
    )


def perplexity(logps: Sequence[float]) -> float:
    """Return exp of the mean negative log-probability."""
    return float(np.exp(-np.mean(logps))) if logps else float("nan")


def _stopped(answers: Sequence[Sequence[int]], stops: Sequence[int]) -> float:
    ended = [bool(answer) and answer[-1] in stops for answer in answers]
    return sum(ended) / len(ended) if ended else float("nan")


def _said(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids))
