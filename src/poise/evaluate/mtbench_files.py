"""MT-Bench's files, in FastChat's formats (llm_judge, Apache-2.0), read and written as they are.

question.jsonl            {"question_id": 81, "category": "writing", "turns": ["Compose …", "Rewrite …"]}
judge_prompts.jsonl       {"name": "single-v1", "system_prompt": "…", "prompt_template": "… {question} … {answer} …"}
reference-gpt-4.jsonl     as model_answer/*.jsonl: {"question_id": 101, "answer_id": "…", "model_id": "gpt-4",
                          "choices": [{"index": 0, "turns": ["…", "…"]}], "tstamp": 0}
model_judgment/*.jsonl    {"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"], "user_prompt": "…",
                          "judgment": "… [[7]]", "score": 7, "turn": 1, "tstamp": 0}
"""

import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.errors import DataError
from poise.evaluate.answer import Answer
from poise.evaluate.journal import content_key
from poise.run import file_sha256, write_whole

REFERENCE_GUIDED = ("math", "reasoning", "coding")
PROMPTS = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")
QUESTIONS_SHA256 = "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7"
REFERENCES_SHA256 = "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f"
REPORTED_WRONG = (104, 105, 109, 111, 113, 114, 120, 122, 124, 125, 126, 128, 130)
"""Questions whose reference answers are reported wrong (FastChat's pull request 3158)."""
FILES = ("question.jsonl", "judge_prompts.jsonl", "reference-gpt-4.jsonl")
ORIGIN = "https://raw.githubusercontent.com/lm-sys/FastChat/main/fastchat/llm_judge/data/"


@dataclass(frozen=True)
class TwoTurns:
    """One question."""

    id: int
    category: str
    turns: tuple[str, ...]


@dataclass(frozen=True)
class Benchmark:
    """Questions, judge prompts by name, reference answers by question."""

    questions: list[TwoTurns]
    prompts: dict[str, dict[str, Any]]
    references: dict[int, list[str]]
    notes: list[str]


def read_benchmark(folder: Path, references: Path | None = None) -> Benchmark:
    """Read FastChat's files, and other reference answers where a file of them is named."""
    found = [_find(folder, name) for name in FILES[: 2 if references else 3]]
    questions = [_question(row) for row in _rows(found[0], ("question_id", "category", "turns"))]
    prompts = {row["name"]: row for row in _rows(found[1], ("name", "system_prompt", "prompt_template"))}
    answers = {
        int(row["question_id"]): list(row["choices"][0]["turns"])
        for row in _rows(references or found[2], ("question_id", "choices"))
    }
    if unknown := [name for name in PROMPTS if name not in prompts]:
        raise DataError(
            f"{found[1]} has no prompt {', '.join(unknown)}\n    to do:  take FastChat's judge_prompts.jsonl"
        )
    lacking = [each.id for each in questions if each.category in REFERENCE_GUIDED and each.id not in answers]
    if lacking:
        raise DataError(f"no reference answer for the questions {lacking}\n    to do:  add them to the references")
    notes: list[str] = []
    if file_sha256(found[0]) != QUESTIONS_SHA256:
        notes.append(f"{found[0].name} is not MT-Bench's own: scores compare only with others of this file")
    if references is None and file_sha256(found[2]) == REFERENCES_SHA256:
        notes.append(
            f"the reference answers of {len(REPORTED_WRONG)} of the 30 reference-guided questions are reported wrong "
            f"({', '.join(map(str, REPORTED_WRONG))}); --references takes corrected ones"
        )
    return Benchmark(questions, prompts, answers, notes)


def write_answers(folder: Path, model: str, answers: dict[int, list[Answer]]) -> Path:
    """Write `model_answer/MODEL.jsonl`."""
    path = folder / "model_answer" / f"{file_name(model)}.jsonl"
    rows = [
        {
            "question_id": question,
            "answer_id": content_key([model, question, [each.text for each in turns]])[:22],
            "model_id": model,
            "choices": [{"index": 0, "turns": [each.text for each in turns]}],
            "tstamp": time.time(),
        }
        for question, turns in sorted(answers.items())
    ]
    return write_rows(path, rows)


def read_answers(path: Path) -> tuple[str, dict[int, list[str]]]:
    """Read an answer file of FastChat's format: the model's name, and the turns of each question."""
    rows = _rows(path, ("question_id", "choices", "model_id"))
    return str(rows[0]["model_id"]), {int(row["question_id"]): list(row["choices"][0]["turns"]) for row in rows}


def file_name(model: str) -> str:
    """Return a model's name as the name of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", model).strip("._") or "model"


def _question(row: dict[str, Any]) -> TwoTurns:
    return TwoTurns(int(row["question_id"]), str(row["category"]), tuple(map(str, row["turns"])))


def _find(folder: Path, name: str) -> Path:
    other = folder / "reference_answer" / "gpt-4.jsonl"
    for path in (folder / name, *([other] if name.startswith("reference") else [])):
        if path.is_file():
            return path
    raise DataError(
        f"{folder} holds no {name}\n"
        "    why:    MT-Bench's questions and judge prompts are FastChat's (Apache-2.0) and do not ship with poise\n"
        f"    to do:  put mt_bench/question.jsonl, judge_prompts.jsonl and mt_bench/reference_answer/gpt-4.jsonl (as "
        f"reference-gpt-4.jsonl) there, from {ORIGIN}"
    )


def _rows(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Read JSON lines that all hold some keys; DataError names the first that does not."""
    if not path.is_file():
        raise DataError(f"there is no file {path}\n    to do:  check the path")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = json.loads(line)
            rows.append({**row, **{key: row[key] for key in keys}})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: no row with {', '.join(keys)} ({error!r})") from None
    if not rows:
        raise DataError(f"{path} holds no row")
    return rows


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write JSON lines, the whole file or nothing."""
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
