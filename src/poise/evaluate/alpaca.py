"""AlpacaEval: which of two answers a judge prefers, a baseline's or the model's (Dubois et al. 2024, arXiv 2404.04475).

alpaca_eval shows each pair once, in an order drawn by the instruction; here every pair is shown in both orders, so that
a judge that likes the first place cancels out, and the preference is their mean. The judge prompt is alpaca_eval's own
(Apache-2.0), unchanged.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poise.errors import DataError
from poise.evaluate.alpaca_files import names
from poise.evaluate.answer import Answer, Sampling
from poise.evaluate.engine import Engine, answer_all
from poise.evaluate.journal import Journal, content_key
from poise.evaluate.judge import TOP_LOGPROBS, Judge
from poise.evaluate.length_control import Calibration, Judged
from poise.evaluate.questions import Question
from poise.evaluate.result import Item, Line, Table
from poise.evaluate.server import Reply, Request, without_reasoning
from poise.evaluate.statistics import mean, share, standard_error, worst_case
from poise.examples import Message
from poise.run import write_whole

TEMPLATE = Path(__file__).parent / "prompts" / "alpaca_eval_clf.txt"
FIRST, SECOND = "m", "M"
"""What the judge prompt calls the two answers."""
DRAW = 1.5
VERDICT_TOKENS = 16
"""Room for a judge without log-probabilities to say one letter, perhaps in quotes."""


@dataclass(frozen=True)
class Pair:
    """An instruction with the baseline's answer and the model's."""

    instruction: str
    baseline: str
    output: str
    dataset: str = ""
    name: str = ""
    """By which two models' items are compared."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a pair, for the model's answer, 0 to 1: with the baseline first, and with the model first.

    None where the reply holds no verdict or was refused.
    """

    baseline_first: float | None
    model_first: float | None
    raw: tuple[str, str] = ("", "")

    @property
    def preference(self) -> float | None:
        """The mean of both orders; None where one of them is missing."""
        if self.baseline_first is None or self.model_first is None:
            return None
        return round((self.baseline_first + self.model_first) / 2, 12)


def pair_up(baseline: Sequence[dict[str, str]], outputs: Sequence[dict[str, str]]) -> list[Pair]:
    """Join answers to the evaluation set by instruction, never by place; one that is asked twice by its occurrence.

    Raises:
        DataError: an instruction of the set has no answer.
    """
    answers = dict(zip(names(outputs), (row["output"] for row in outputs), strict=True))
    named = list(zip(names(baseline), baseline, strict=True))
    lacking = [row["instruction"] for name, row in named if name not in answers]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(baseline)} instructions have no answer, the first: {lacking[0][:80]!r}\n"
            "    why:    a rate over other instructions is another rate\n"
            "    to do:  answer them, or leave them out of the evaluation set"
        )
    return [
        Pair(row["instruction"], row["output"], answers[name], row.get("dataset") or "", name) for name, row in named
    ]


def answer_instructions(
    engine: Engine, baseline: Sequence[dict[str, str]], journal: Journal, max_new_tokens: int
) -> list[Answer]:
    """Answer every instruction of an evaluation set, greedily."""
    questions = [
        Question(name, "alpaca", (Message("user", row["instruction"]),))
        for name, row in zip(names(baseline), baseline, strict=True)
    ]
    return answer_all(engine, questions, Sampling(max_new_tokens), journal, f"ask {engine.name}")


def check_calibrated(baseline: Sequence[dict[str, str]], calibration: Calibration) -> None:
    """Refuse a calibration on any other evaluation set than its own, on which its difficulties mean nothing."""
    if set(calibration.difficulty) != set(range(len(baseline))):
        raise DataError(
            f"the calibration knows {len(calibration.difficulty)} instructions, the set has {len(baseline)}\n"
            "    why:    the length-controlled rate is defined for AlpacaEval's own 805 instructions alone\n"
            "    to do:  leave --calibration out; a length-adjusted rate is reported instead"
        )


def judged(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Judged:
    """Return pairs that all have a verdict as arrays."""
    return Judged(
        np.array([verdict.preference for verdict in verdicts], dtype=float),
        np.array([len(pair.baseline) for pair in pairs], dtype=float),
        np.array([len(pair.output) for pair in pairs], dtype=float),
    )


def judge_pairs(judge: Judge, pairs: Sequence[Pair], template: str) -> list[Verdict]:
    """Ask for a verdict on every pair in both orders."""
    shown = [(pair.instruction, *order) for pair in pairs for order in _orders(pair)]
    replies = judge.server.ask_all([_request(judge, template, *each) for each in shown], f"judge {judge.name}")
    verdicts: list[Verdict] = []
    for first, second in zip(replies[::2], replies[1::2], strict=True):
        says_first = preference_for_second(first, judge.gives_logprobs)
        says_second = preference_for_second(second, judge.gives_logprobs)
        flipped = None if says_second is None else 1 - says_second
        verdicts.append(Verdict(says_first, flipped, (first.text or first.error, second.text or second.error)))
    return verdicts


def preference_for_second(reply: Reply, by_logprobs: bool) -> float | None:
    """Read a reply: how much the second answer is preferred, 0 to 1; None where it holds no verdict.

    By log-probabilities it is P("M") / (P("m") + P("M")) of the first token.
    """
    if reply.error:
        return None
    if by_logprobs:
        likely = reply.first_token or {}
        first, second = (math.exp(likely[token]) if token in likely else 0.0 for token in (FIRST, SECOND))
        return second / (first + second) if first + second else None
    said = without_reasoning(reply).text.strip().strip("\"'`.*")
    return {FIRST: 0.0, SECOND: 1.0}.get(said)


def figures(preferences: Sequence[float | None], lengths: Sequence[int]) -> dict[str, float | int]:
    """Return the row of alpaca_eval's leaderboard, from preferences as it stores them: 1 to 2, 0 or 1.5 a draw."""
    given = [DRAW if value == 0 else value for value in preferences if value is not None]
    shares = [value - 1 for value in given]
    wins, draws = sum(value > DRAW for value in given), sum(value == DRAW for value in given)
    return {
        "win_rate": 100 * sum(shares) / len(shares),
        "standard_error": 100 * standard_error(shares),
        "n_wins": wins,
        "n_wins_base": len(given) - wins - draws,
        "n_draws": draws,
        "n_total": len(given),
        "discrete_win_rate": 100 * (wins + draws / 2) / len(given),
        "avg_length": int(sum(lengths) / len(lengths)),
    }


def table(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Table:
    """Return win rates, and beside them what a judge would give that always takes the longer answer, or the first."""
    given = [each.preference for each in verdicts]
    scored = [100 * value for value in given if value is not None]
    missing = len(given) - len(scored)
    discrete = [100 * _discrete(value) for value in given if value is not None]
    longer = [100.0 if each > 0 else 50.0 if each == 0 else 0.0 for each in map(_extra_length, pairs)]
    bounds = [(worst_case(values, missing, 0, 100) if missing else None) for values in (scored, discrete)]
    return Table(
        "Win rate",
        "percent",
        [
            Line("win rate", mean(scored), missing, bounds[0]),
            Line("discrete win rate", mean(discrete), missing, bounds[1]),
            Line("a judge that takes the longer answer", mean(longer)),
            Line("a judge that takes the first answer", share(len(pairs), 2 * len(pairs)).scaled(100)),
        ],
    )


def reliability(verdicts: Sequence[Verdict]) -> Table:
    """Return how often the judge says the same in both orders, and how often it takes the first place."""
    both = [
        (each.baseline_first, each.model_first)
        for each in verdicts
        if each.baseline_first is not None and each.model_first is not None
    ]
    if not both:
        return Table("Judge", "percent of pairs")
    same = sum(_discrete(one) == _discrete(other) for one, other in both)
    first_place = [(_discrete(1 - one) + _discrete(other)) / 2 for one, other in both]
    return Table(
        "Judge",
        "percent of pairs",
        [
            Line("same verdict in both orders", share(same, len(both)).scaled(100)),
            Line("verdict follows the place", share(len(both) - same, len(both)).scaled(100)),
            Line("first place taken", mean([100 * value for value in first_place])),
        ],
    )


def items(pairs: Sequence[Pair], verdicts: Sequence[Verdict], judged_by: Sequence[Any]) -> list[Item]:
    """Return one item per pair, named by its instruction; `judged_by` is all of the judge that decides a verdict."""
    return [
        Item(
            "alpaca",
            pair.name,
            pair.name,
            content_key([pair.instruction, pair.baseline, judged_by]),
            verdict.preference,
        )
        for pair, verdict in zip(pairs, verdicts, strict=True)
    ]


def write_annotations(
    path: Path, pairs: Sequence[Pair], verdicts: Sequence[Verdict], *, baseline: str, model: str, annotator: str
) -> None:
    """Write alpaca_eval's `annotations.json`, with the verdict of each order beside the preference."""
    rows = [
        {
            "instruction": pair.instruction,
            "output_1": pair.baseline,
            "generator_1": baseline,
            "dataset": pair.dataset,
            "output_2": pair.output,
            "generator_2": model,
            "annotator": annotator,
            "preference": None if verdict.preference is None else 1 + verdict.preference,
            "preference_baseline_first": verdict.baseline_first,
            "preference_model_first": verdict.model_first,
            "raw_completion": list(verdict.raw),
        }
        for pair, verdict in zip(pairs, verdicts, strict=True)
    ]
    write_whole(path, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


def _request(judge: Judge, template: str, instruction: str, first: str, second: str) -> Request:
    settings: dict[str, Any] = {"max_tokens": VERDICT_TOKENS, "temperature": 0}
    if judge.gives_logprobs:
        settings = {"logprobs": True, "max_tokens": 1, "temperature": 1, "top_logprobs": TOP_LOGPROBS}
    filled = {"{instruction}": instruction, "{output_1}": first, "{output_2}": second}
    return Request(_messages(template, filled), tuple(sorted(settings.items())))


def _messages(template: str, filled: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Cut a ChatML-like template into messages, then fill them, so that no answer can begin a message of its own."""
    messages: list[tuple[str, str]] = []
    for part in template.split("<|im_start|>")[1:]:
        role, _, content = part.partition("\n")
        content = content.rpartition("<|im_end|>")[0].strip()
        messages.append((role.strip(), _fill(content, filled)))
    if not messages:
        raise DataError(
            "the judge prompt has no <|im_start|>ROLE … <|im_end|>\n    to do:  write it as alpaca_eval does"
        )
    return tuple(messages)


def _fill(content: str, filled: dict[str, str]) -> str:
    """Replace every placeholder of a template in one pass: an answer that holds one is left as it is."""
    return re.sub("|".join(map(re.escape, filled)), lambda found: filled[found[0]], content)


def _orders(pair: Pair) -> tuple[tuple[str, str], tuple[str, str]]:
    return (pair.baseline, pair.output), (pair.output, pair.baseline)


def _discrete(value: float) -> float:
    return 1.0 if value > 0.5 else 0.5 if value == 0.5 else 0.0


def _extra_length(pair: Pair) -> int:
    return len(pair.output) - len(pair.baseline)
