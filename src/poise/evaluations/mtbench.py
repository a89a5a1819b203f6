"""Grade a model on MT-Bench with a judge, in FastChat's file formats."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise.evaluations import _options as options

if TYPE_CHECKING:
    from poise.evaluate.answer import Answer
    from poise.evaluate.mtbench_files import Benchmark

PARAMETERS = [
    options.option("--model", metavar="MODEL", help="A folder, a Hub id, or URL#NAME on a server."),
    options.option("--answers", type=options.FILE, help="Answers in FastChat's format, instead of a model."),
    options.option("--data", type=options.FOLDER, required=True, help="Folder of FastChat's questions and prompts."),
    options.option("--references", type=options.FILE, help="Corrected reference answers, instead of GPT-4's."),
    options.option("--repeats", type=options.AT_LEAST_ONE, default=1, help="How often each turn is graded."),
    *options.judging(),
    *options.answering(max_new_tokens=1024),
]


def run(
    *,
    model: str | None,
    answers: Path | None,
    data: Path,
    references: Path | None,
    repeats: int,
    judge: str,
    concurrency: int,
    attempts: int,
    out: Path | None,
    chat_template: str | None,
    max_new_tokens: int,
    batch_size: int,
) -> dict[str, Any]:
    """Answer, grade, write; returns what `--json` prints."""
    options.exactly_one({"--model": model, "--answers": answers}, "answers")
    from poise.answering import claimed, open_engine, open_server
    from poise.evaluate import mtbench, mtbench_files
    from poise.evaluate.judge import open_judge, require_any, warn_of_itself
    from poise.evaluate.result import Result
    from poise.run import file_sha256, write_whole

    benchmark = mtbench_files.read_benchmark(data, references)
    given: dict[int, list[Answer]] = {}
    if answers is not None:
        name, texts = mtbench_files.read_answers(answers)
    else:
        name, texts = str(model), {}
    folder = out or Path("evaluations") / "mtbench" / mtbench_files.file_name(name)
    with claimed(folder):
        grader = open_judge(
            open_server(judge, folder, concurrency=concurrency, attempts=attempts), needs_logprobs=False
        )
        if model is not None:
            engine = open_engine(
                model,
                folder,
                chat_template=chat_template,
                batch_size=batch_size,
                concurrency=concurrency,
                attempts=attempts,
            )
            given = _answer(engine, benchmark, folder, max_new_tokens)
            name, texts = engine.name, {id: [each.text for each in turns] for id, turns in given.items()}
        mtbench.check_complete(benchmark, texts)
        judgments = mtbench.judge_answers(grader, benchmark, texts, repeats=repeats)
        rows = mtbench.write_judgments(folder, name, grader.name, judgments)
        require_any(sum(each.score != mtbench.UNPARSED for each in judgments), grader, folder)
        printed = mtbench.printout(rows)
        write_whole(folder / "table.txt", printed)
        said = [(each.text, each.stopped) for turns in given.values() for each in turns]
        said = said or [(text, True) for turns in texts.values() for text in turns]
        result = Result(
            kind="mtbench",
            model=name,
            tables=mtbench.tables(judgments),
            items=mtbench.items(judgments, mtbench.judged_by(benchmark, grader.identity())),
            judge=grader.identity(),
            notes=[*benchmark.notes, *warn_of_itself(grader, [name]), *options.notes_on(said), *_spread(judgments)],
            settings={
                "prompts": file_sha256(data / mtbench_files.FILES[1]),
                "references": str(references or "FastChat's"),
                "repeats": repeats,
            },
            figures={"printout": printed, "average_by_repeat": mtbench.spread(judgments)},
        )
        result.write(folder)
    return result.as_json(folder)


def told(result: dict[str, Any]) -> str:
    """Show FastChat's table, then ours with intervals."""
    from poise.evaluate.result import told as tables

    return f"{result['figures']['printout']}\n{tables(result)}"


def _answer(engine: Any, benchmark: "Benchmark", folder: Path, max_new_tokens: int) -> "dict[int, list[Answer]]":
    from poise.evaluate import mtbench, mtbench_files
    from poise.evaluate.journal import Journal

    journal = Journal(folder / "answers.jsonl")
    given = mtbench.answer_questions(engine, benchmark.questions, journal, max_new_tokens=max_new_tokens)
    mtbench_files.write_answers(folder, engine.name, given)
    return given


def _spread(judgments: Any) -> list[str]:
    from poise.evaluate.mtbench import spread

    averages = spread(judgments)
    if len(averages) < 2:
        return ["graded once; equal gradings are known to differ by 0.1 to 0.2, --repeats shows by how much here"]
    told = ", ".join(f"{average:.3f}" for average in averages)
    return [
        f"averages of the {len(averages)} gradings: {told} (from lowest to highest {max(averages) - min(averages):.3f})"
    ]
