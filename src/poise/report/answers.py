"""Which answers to show: the biggest losses beside the biggest wins, then an even sample of the rest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from poise.report.wording import compact, is_number

PICKED, REST, REST_UNSCORED = 4, 6, 12
SHORT, LONG = 400, 4000
"""Characters shown at once, and at most."""

Gain = tuple[float, float]
"""The last score less the best earlier one if it is below that, else less the lowest; then less the previous one."""

UNCHANGED: Gain = (0.0, 0.0)

Mark = Literal["right", "wrong", "part", "unmarked"]


@dataclass(frozen=True)
class Text:
    """A text from a model or a row: what is shown at once, the whole when it is longer, and how much is left out."""

    shown: str
    whole: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Answer:
    """One model's answer to one question."""

    label: str
    text: Text
    mark: Mark
    mark_text: str
    stopped: bool


@dataclass(frozen=True)
class Question:
    """One question with every model's answer."""

    set: str
    prompt: list[tuple[str, Text]]
    """(role, content) of each turn."""
    expected: Text | None
    answers: list[Answer]


@dataclass(frozen=True)
class Answers:
    """The answers section; losses and wins are None where nothing was scored."""

    losses: list[Question] | None
    wins: list[Question] | None
    rest: list[Question]
    counts: tuple[int, int, int]
    """How many questions were lost, won, and neither."""


def choose_answers(samples: Sequence[dict[str, Any]], labels: Sequence[str]) -> Answers:
    """Pick the questions worth reading, in the order of the file where they tie."""
    gains = [_gain(sample, labels) for sample in samples]
    if all(gain is None for gain in gains):
        return Answers(None, None, _show(_spread(samples, REST_UNSCORED), labels), (0, 0, len(samples)))
    scored = [(gain or UNCHANGED, sample) for gain, sample in zip(gains, samples, strict=True)]
    losses = sorted((one for one in scored if one[0] < UNCHANGED), key=_by_gain)
    wins = sorted((one for one in scored if one[0] > UNCHANGED), key=_by_gain, reverse=True)
    rest = [sample for gain, sample in scored if gain == UNCHANGED]
    return Answers(
        _show([sample for _, sample in losses[:PICKED]], labels),
        _show([sample for _, sample in wins[:PICKED]], labels),
        _show(_spread(rest, REST), labels),
        (len(losses), len(wins), len(rest)),
    )


def _by_gain(scored: tuple[Gain, dict[str, Any]]) -> Gain:
    return scored[0]


def _gain(sample: dict[str, Any], labels: Sequence[str]) -> Gain | None:
    """Compare the last score with the previous and the first model's; None where the question was not scored."""
    answers = sample.get("answers") or {}
    scores = [(answers.get(label) or {}).get("score") for label in labels]
    earlier = [score for score in (*scores[-2:-1], *scores[:1]) if is_number(score)]
    if len(labels) < 2 or not earlier or not is_number(scores[-1]):
        return None
    last = scores[-1]
    return last - (max(earlier) if last < max(earlier) else min(earlier)), last - earlier[0]


def _spread(samples: Sequence[dict[str, Any]], at_most: int) -> list[dict[str, Any]]:
    """Take every k-th sample, so that the whole file is represented."""
    step = max(1, -(-len(samples) // at_most))
    return list(samples[::step])


def _show(samples: Iterable[dict[str, Any]], labels: Sequence[str]) -> list[Question]:
    return [
        Question(
            set=str(sample.get("set") or ""),
            prompt=[(str(turn.get("role")), _text(turn.get("content"))) for turn in sample.get("prompt") or []],
            expected=None if sample.get("expected") is None else _text(sample["expected"]),
            answers=[_answer(label, answers[label]) for label in labels if label in answers],
        )
        for sample in samples
        for answers in [sample.get("answers") or {}]
    ]


def _answer(label: str, answer: dict[str, Any]) -> Answer:
    score = answer.get("score")
    if not is_number(score):
        mark, mark_text = "unmarked", ""
    elif score >= 1:
        mark, mark_text = "right", "✓ right"
    elif score <= 0:
        mark, mark_text = "wrong", "✗ wrong"
    else:
        mark, mark_text = "part", f"◐ score {compact(score)}"
    return Answer(label, _text(answer.get("text")), mark, mark_text, stopped=answer.get("stopped") is not False)


def _text(value: Any) -> Text:
    text = "" if value is None else str(value)
    if len(text) <= SHORT:
        return Text(text)
    return Text(text[: SHORT // 2].rstrip() + " …", text[:LONG], max(0, len(text) - LONG))
