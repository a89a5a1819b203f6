"""Several answers to one prompt and their order, as UltraFeedback (arXiv:2310.01377) and Nectar have them.

    {"prompt": "Hi", "answers": ["Hello!", "Yes?", "No."], "scores": [9, 5, 5]}        the highest score is the best
    {"prompt": "Hi", "responses": ["Hello!", "Yes?", "No."], "ranks": [1, 2, 2]}       the lowest rank is the best
    {"instruction": "Hi", "completions": [{"response": "Hello!", "overall_score": 8.5}, …]}
    {"prompt": "Hi", "answers": [{"answer": "Hello!", "rank": 1}, …]}

https://huggingface.co/datasets/openbmb/UltraFeedback, https://huggingface.co/datasets/berkeley-nest/Nectar
"""

import math
from collections.abc import Sequence
from typing import Any, cast

from poise.examples import Message, RankedAnswers
from poise.sources.refusal import NothingToLearn, RowError
from poise.sources.transcripts import is_transcript, parse_transcript
from poise.sources.turns import Columns, instruction_in, list_in, prompt_in, text_in, turns_in

ANSWERS = ("answers", "responses", "completions")
ORDERS = ("scores", "ranks", "ranking")
ANSWER_KEYS = ("response", "answer", "completion", "text")
"""Where an answer that stands beside its score has its text."""
SCORE_KEYS = ("overall_score", "fine-grained_score", "score", "rating", "rank")
"""Where it has its score: the first that all answers of the row have as a number is taken."""


def ranked_answers(columns: Columns) -> RankedAnswers:
    """Read a row of answers with their order; NothingToLearn where all are equally good."""
    prompt = prompt_in(columns) if columns.get("prompt") is not None else instruction_in(columns)
    name = _only(columns, ANSWERS, "answers")
    values = list_in(columns, name)
    answers = tuple(_answer(value, prompt, f"{name}[{index}]") for index, value in enumerate(values))
    ranks = _ranks(columns, name, values)
    if len(set(ranks)) < 2:
        raise NothingToLearn("no answer ranks above another", name)
    return RankedAnswers(prompt, answers, ranks)


def _only(columns: Columns, names: Sequence[str], what: str) -> str:
    """Return the one of these columns that holds something, the first where none does."""
    filled = [name for name in names if columns.get(name) is not None]
    if len(filled) > 1:
        raise RowError(
            f"two columns of {what}",
            f" {filled[1]}",
            f"{what} stand in {' and '.join(map(repr, filled))}",
            "which of them is meant cannot be guessed, and a guess would be trained on",
            "name the columns to read in `columns`",
        )
    return (filled or [name for name in names if name in columns] or list(names))[0]


def _answer(value: Any, prompt: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    """Return an answer's turns without the prompt, should they repeat it."""
    if isinstance(value, dict) and not {"role", "from"} & value.keys():
        beside = cast("dict[str, Any]", value)
        key = next((key for key in ANSWER_KEYS if key in beside), ANSWER_KEYS[0])
        return _answer(beside.get(key), prompt, f"{where}.{key}")
    if isinstance(value, str) and is_transcript(value):
        turns = parse_transcript(text_in({where: value}, where), where)
    else:
        turns = turns_in({where: [value] if isinstance(value, dict) else value}, where, "assistant")
    turns = turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns
    if not turns or turns[0].role != "assistant":
        raise NothingToLearn("no shared prompt", where)
    return turns


def _ranks(columns: Columns, name: str, answers: Sequence[Any]) -> tuple[int, ...]:
    """Return the place of each answer, 0 the best, equal where their scores or ranks are."""
    if not any(columns.get(order) is not None for order in ORDERS):
        return _inner_ranks(name, answers)
    order = _only(columns, ORDERS, "orders")
    if order == "ranking":
        raise RowError(
            "an order that reads two ways",
            " ranking",
            "a ranking says the place of each answer, or lists the answers from the best on",
            "the two readings prefer different answers",
            "name it ranks (the place of each answer, the lowest is the best) or scores (the highest is the best)",
        )
    numbers = [_number(value, f"{order}[{index}]") for index, value in enumerate(list_in(columns, order))]
    if len(numbers) != len(answers):
        raise RowError(
            "answers without a place",
            f" {order}",
            f"{len(numbers):,} {order} for {len(answers):,} {name}",
            "each answer has its own place in the order",
            f"write as many {order} as {name}",
        )
    return _places(numbers, best_is_high=order == "scores")


def _inner_ranks(name: str, answers: Sequence[Any]) -> tuple[int, ...]:
    """Read the order from what stands beside each answer."""
    for key in SCORE_KEYS:
        values = [answer.get(key) if isinstance(answer, dict) else None for answer in cast("list[Any]", answers)]
        if answers and all(value is not None for value in values):
            numbers = [_number(value, f"{name}[{index}].{key}") for index, value in enumerate(values)]
            return _places(numbers, best_is_high=key != "rank")
    raise RowError(
        "no order",
        f" {name}",
        f"answers without an order: neither the columns scores or ranks, nor {' or '.join(SCORE_KEYS)} in every answer",
        "which answer is better cannot be guessed, and a guess would be trained on",
        "add a column scores (the highest is the best) or ranks (the lowest is the best)",
    )


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        found = "NaN" if isinstance(value, float) else "null" if value is None else repr(value)[:60]
        raise RowError(
            "wrong type",
            f" {where}",
            f"{found} where a number is expected",
            "the order of the answers is read from it",
            "write a number, or leave the answer out",
        )
    return value


def _places(numbers: Sequence[float], *, best_is_high: bool) -> tuple[int, ...]:
    order = sorted(set(numbers), reverse=best_is_high)
    return tuple(order.index(number) for number in numbers)
