"""MT-Bench: 80 two-turn questions, each turn graded 1 to 10 by a judge (Zheng et al. 2023, arXiv 2306.05685).

The protocol is that of FastChat's llm_judge: its temperatures by category, its prompts, its reading of a grade.
"""

import ast
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.errors import DataError
from poise.evaluate.answer import Answer, Sampling
from poise.evaluate.engine import Engine, answer_all
from poise.evaluate.journal import Journal, content_key
from poise.evaluate.judge import Judge
from poise.evaluate.mtbench_files import REFERENCE_GUIDED, Benchmark, TwoTurns, file_name, write_rows
from poise.evaluate.questions import Question
from poise.evaluate.result import Item, Line, Table
from poise.evaluate.server import Reply, Request, without_reasoning
from poise.evaluate.statistics import mean, worst_case
from poise.examples import Message

TEMPERATURES = {
    "writing": 0.7, "roleplay": 0.7, "extraction": 0.0, "math": 0.0, "coding": 0.0, "reasoning": 0.0, "stem": 0.1,
    "humanities": 0.1,
}  # fmt: skip
OTHER_TEMPERATURE = 0.7
JUDGE_TOKENS = 2048
LOWEST, HIGHEST = 1, 10
SCORE = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))
UNPARSED = -1
"""What FastChat writes for a judgment without a score; it is left out of every mean."""


def temperature(question: TwoTurns) -> float:
    """Return the temperature at which a question is answered."""
    return TEMPERATURES.get(question.category, OTHER_TEMPERATURE)


def prompt_name(question: TwoTurns, turn: int) -> str:
    """Name the judge prompt of a turn."""
    guided = "math-" if question.category in REFERENCE_GUIDED else ""
    return f"single-{guided}v1" + ("-multi-turn" if turn == 2 else "")


@dataclass(frozen=True)
class Judgment:
    """One turn of one question, as the judge graded it; `score` is UNPARSED where it gave none."""

    question: TwoTurns
    turn: int
    repeat: int
    prompt_name: str
    user_prompt: str
    reply: Reply
    score: float


def answer_questions(
    engine: Engine, questions: Sequence[TwoTurns], journal: Journal, *, max_new_tokens: int, seed: int = 0
) -> dict[int, list[Answer]]:
    """Answer both turns; the second is asked with the model's own first answer before it."""
    first = _ask(engine, questions, {}, journal, max_new_tokens, seed)
    second = _ask(engine, [each for each in questions if len(each.turns) > 1], first, journal, max_new_tokens, seed)
    return {each.id: [first[each.id], *([second[each.id]] if each.id in second else [])] for each in questions}


def check_complete(benchmark: Benchmark, answers: dict[int, list[str]]) -> None:
    """Refuse answers that leave a turn out: the mean of other questions is another score."""
    lacking = [each.id for each in benchmark.questions if len(answers.get(each.id, [])) < len(each.turns)]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(benchmark.questions)} questions lack an answer, the first: {lacking[0]}\n"
            "    to do:  answer all of them, or take them out of question.jsonl"
        )


def judged_by(benchmark: Benchmark, judge: dict[str, Any]) -> dict[str, Any]:
    """Return all that decides a grade besides question and answer."""
    return {**judge, "prompts": benchmark.prompts, "references": benchmark.references}


def judge_answers(
    judge: Judge, benchmark: Benchmark, answers: dict[int, list[str]], *, repeats: int = 1
) -> list[Judgment]:
    """Grade every turn, each `repeats` times."""
    graded = [
        (question, turn, repeat)
        for repeat in range(repeats)
        for turn in (1, 2)
        for question in benchmark.questions
        if len(question.turns) >= turn
    ]
    requests = [_judge_request(benchmark, *which, answers[which[0].id]) for which in graded]
    replies = judge.server.ask_all(requests, f"judge {judge.name}")
    return [
        Judgment(
            question,
            turn,
            repeat,
            prompt_name(question, turn),
            request.messages[-1][1],
            reply,
            parse_score(without_reasoning(reply).text),
        )
        for (question, turn, repeat), request, reply in zip(graded, requests, replies, strict=True)
    ]


def parse_score(judgment: str) -> float:
    """Read the grade as FastChat does, in double brackets or else in single ones; one outside 1 to 10 is none."""
    for pattern in SCORE:
        found = pattern.search(judgment)
        if found:
            score = ast.literal_eval(found[1].lstrip("0") or "0")
            return score if LOWEST <= score <= HIGHEST else UNPARSED
    return UNPARSED


def tables(judgments: Sequence[Judgment]) -> list[Table]:
    """Return turns and average, and every category; both turns and all repeats of a question are one cluster."""
    turns = [
        _line(name, [each for each in judgments if each.turn in which])
        for name, which in (("first turn", (1,)), ("second turn", (2,)), ("average", (1, 2)))
        if any(each.turn in which for each in judgments)
    ]
    categories = list(dict.fromkeys(each.question.category for each in judgments))
    by_category = [_line(name, [each for each in judgments if each.question.category == name]) for name in categories]
    return [
        Table(title, "grade 1 to 10", [line for line in lines if line])
        for title, lines in (("MT-Bench", turns), ("By category", by_category))
    ]


def spread(judgments: Sequence[Judgment]) -> list[float]:
    """Return the average of each repeat of the judging."""
    repeats = sorted({each.repeat for each in judgments})
    scores = [
        [each.score for each in judgments if each.repeat == repeat and each.score >= LOWEST] for repeat in repeats
    ]
    return [sum(of_one) / len(of_one) for of_one in scores if of_one]


def items(judgments: Sequence[Judgment], judge: dict[str, Any]) -> list[Item]:
    """Return one item per turn of a question: the mean grade of its repeats."""
    grades: dict[tuple[int, int], list[Judgment]] = {}
    for each in judgments:
        grades.setdefault((each.question.id, each.turn), []).append(each)
    return [
        Item(
            "mtbench",
            f"{question}-{turn}",
            str(question),
            content_key([of_turn[0].question.turns[:turn], of_turn[0].prompt_name, judge]),
            _mean([each.score for each in of_turn if each.score >= LOWEST]),
        )
        for (question, turn), of_turn in grades.items()
    ]


def printout(rows: Iterable[dict[str, Any]]) -> str:
    """Print judgments (their columns model, score, turn) in FastChat's three blocks, byte for byte."""
    import pandas as pd

    frame: Any = pd.DataFrame([{key: row[key] for key in ("model", "score", "turn")} for row in rows])
    frame = frame[frame["score"] != UNPARSED]
    blocks: list[str] = []
    for turn, title in ((1, "First turn"), (2, "Second turn")):
        means: Any = frame[frame["turn"] == turn].groupby(["model", "turn"]).mean()
        blocks.append(f"\n########## {title} ##########\n{means.sort_values(by='score', ascending=False)}\n")
    means = frame[["model", "score"]].groupby(["model"]).mean()
    blocks.append(f"\n########## Average ##########\n{means.sort_values(by='score', ascending=False)}\n")
    return "".join(blocks)


def write_judgments(folder: Path, model: str, judge: str, judgments: Sequence[Judgment]) -> list[dict[str, Any]]:
    """Write `model_judgment/JUDGE_single.jsonl`; refused requests are no judgments and are not in it."""
    rows = [
        {
            "question_id": each.question.id,
            "model": model,
            "judge": [judge, each.prompt_name],
            "user_prompt": each.user_prompt,
            "judgment": each.reply.text,
            "score": each.score,
            "turn": each.turn,
            "tstamp": time.time(),
        }
        for each in judgments
        if not each.reply.error
    ]
    write_rows(folder / "model_judgment" / f"{file_name(judge)}_single.jsonl", rows)
    return rows


def _ask(
    engine: Engine,
    questions: Sequence[TwoTurns],
    before: dict[int, Answer],
    journal: Journal,
    max_new_tokens: int,
    seed: int,
) -> dict[int, Answer]:
    """Ask one turn of every question, those of one temperature together."""
    answers: dict[int, Answer] = {}
    turn = "second turn" if before else "first turn"
    for degree in sorted({temperature(question) for question in questions}):
        asked = [question for question in questions if temperature(question) == degree]
        prompts = [Question(f"{each.id}-{turn}", each.category, _messages(each, before)) for each in asked]
        given = answer_all(engine, prompts, Sampling(max_new_tokens, degree, seed), journal, turn)
        answers |= {question.id: one for question, one in zip(asked, given, strict=True)}
    return answers


def _messages(question: TwoTurns, before: dict[int, Answer]) -> tuple[Message, ...]:
    if question.id not in before:
        return (Message("user", question.turns[0]),)
    said = before[question.id].text
    return (Message("user", question.turns[0]), Message("assistant", said), Message("user", question.turns[1]))


def _judge_request(benchmark: Benchmark, question: TwoTurns, turn: int, repeat: int, answers: Sequence[str]) -> Request:
    """Fill the judge prompt of a turn; braces in answers stay what they are."""
    prompt = benchmark.prompts[prompt_name(question, turn)]
    if turn == 1:
        filled = {"question": question.turns[0], "answer": answers[0]}
    else:
        filled = {
            "question_1": question.turns[0], "question_2": question.turns[1], "answer_1": answers[0],
            "answer_2": answers[1],
        }  # fmt: skip
    if question.category in REFERENCE_GUIDED:
        filled |= {f"ref_answer_{number}": text for number, text in enumerate(benchmark.references[question.id], 1)}
    try:
        text = prompt["prompt_template"].format(**filled)
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"the judge prompt {prompt['name']} asks for {error}, which question {question.id} does not have\n"
            "    to do:  take FastChat's judge_prompts.jsonl, and references with both turns"
        ) from None
    messages = (("system", prompt["system_prompt"]), ("user", text))
    return Request(messages, (("max_tokens", JUDGE_TOKENS), ("temperature", 0)), repeat)


def _line(name: str, judgments: Sequence[Judgment]) -> Line | None:
    scored = [each for each in judgments if each.score >= LOWEST]
    if not scored:
        return None
    scores, missing = [each.score for each in scored], len(judgments) - len(scored)
    estimate = mean(scores, [each.question.id for each in scored])
    return Line(name, estimate, missing, worst_case(scores, missing, LOWEST, HIGHEST) if missing else None)


def _mean(scores: Sequence[float]) -> float | None:
    return sum(scores) / len(scores) if scores else None
