"""Answer a file of questions with one model or several, side by side, scored and flagged."""

from pathlib import Path
from typing import Any

import click

from poise.errors import RecipeError
from poise.evaluations import _options as options

SAMPLES_SHOWN, WIDEST = 3, 160
"""Questions, and characters of an answer, shown in the terminal; samples.jsonl holds all."""
PARAMETERS = [
    options.option(
        "--model", "models", multiple=True, required=True, metavar="[LABEL=]MODEL",
        help="A folder, a Hub id, or URL#NAME on a server; may be given several times.",
    ),
    options.option("--questions", type=options.FILE, required=True, help="One question a line, as recipes name them."),
    options.option("--temperature", type=click.FloatRange(min=0), default=0.0, help="0 takes the likeliest token."),
    options.option("--seed", type=int, default=0, help="Of sampling, with each question's id."),
    *options.asking(),
    options.option("--out", type=options.FOLDER, default=Path("evaluations/generate"), help="The folder to write."),
    *options.answering(max_new_tokens=256),
]  # fmt: skip


def run(
    *,
    models: tuple[str, ...],
    questions: Path,
    temperature: float,
    seed: int,
    concurrency: int,
    attempts: int,
    out: Path,
    chat_template: str | None,
    max_new_tokens: int,
    batch_size: int,
) -> dict[str, Any]:
    """Answer with each model in turn; returns what `--json` prints."""
    from poise.answering import claimed, labelled, open_engine
    from poise.evaluate.answer import Answer, Sampling
    from poise.evaluate.engine import answer_all
    from poise.evaluate.journal import Journal
    from poise.evaluate.questions import load_questions
    from poise.run import Run

    asked = load_questions(questions)
    if len({question.id for question in asked}) < len(asked):
        raise RecipeError(f"{questions} uses an id twice\n    why:    answers are kept by the id of their question")
    labels = labelled(models)
    answers: dict[str, list[Answer]] = {}
    results: list[dict[str, Any]] = []
    sampling = Sampling(max_new_tokens, temperature, seed)
    with claimed(out):
        for label, model in labels.items():
            engine = open_engine(
                model,
                out,
                chat_template=chat_template,
                batch_size=batch_size,
                concurrency=concurrency,
                attempts=attempts,
            )
            answers[label] = answer_all(engine, asked, sampling, Journal(out / "answers.jsonl"), f"ask {label}")
            result = _result(label, model, asked, answers[label], sampling)
            result.write(out if len(labels) == 1 else out / label)
            results.append(result.as_json(out if len(labels) == 1 else out / label))
        from poise.workflow import write_evidence  # it imports torch, and a mistake should be told before that

        write_evidence(out, asked, answers)
    return {"folder": str(out), "results": results, "samples": Run(out).samples()[:SAMPLES_SHOWN]}


def told(result: dict[str, Any]) -> str:
    """Show some answers side by side, then the tables of every model."""
    from poise.evaluate.result import told as tables

    shown = [line for sample in result["samples"] for line in _side_by_side(sample)]
    return "\n".join([*shown, "\n\n".join(tables(each) for each in result["results"])])


def _side_by_side(sample: dict[str, Any]) -> list[str]:
    width = max(map(len, sample["answers"]))
    answers = [f"  {label:<{width}}  {_short(given['text'])}" for label, given in sample["answers"].items()]
    return [_short(sample["prompt"][-1]["content"]), *answers, ""]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"


def _result(label: str, model: str, questions: Any, answers: Any, sampling: Any) -> Any:
    """Make tables of right answers by set, and of how answers end."""
    from dataclasses import asdict

    from poise.evaluate.flags import counted
    from poise.evaluate.journal import content_key
    from poise.evaluate.result import Item, Line, Result, Table
    from poise.evaluate.statistics import mean, share

    items = [
        Item(question.set, question.id, question.id, content_key([asdict(question), asdict(sampling)]), given.score)
        for question, given in zip(questions, answers, strict=True)
    ]
    scored: dict[str, list[float]] = {}
    for item in items:
        if item.score is not None:
            scored.setdefault(item.task, []).append(100 * item.score)
    rights = [Line(name, mean(values) if set(values) - {0, 100} else share(sum(values) / 100, len(values)).scaled(100))
              for name, values in scored.items()]  # fmt: skip
    said = [(given.text, given.stopped) for given in answers]
    n = len(said)
    ends = [Line("stop by themselves", share(sum(stopped for _, stopped in said), n).scaled(100))]
    ends += [Line(flag, share(count, n).scaled(100)) for flag, count in counted(said).items()]
    tables = [*([Table("Right answers", "percent", rights)] if rights else []), Table("Answers", "percent", ends)]
    return Result(
        kind="generate", model=label, tables=tables, items=items, settings={"model": model, **asdict(sampling)}
    )
