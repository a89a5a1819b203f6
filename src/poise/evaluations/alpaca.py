"""Compare a model's answers with a baseline's by a judge, as AlpacaEval does, on its set or any other."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise.evaluations import _options as options

if TYPE_CHECKING:
    from poise.evaluate.alpaca import Pair, Verdict
    from poise.evaluate.answer import Answer
    from poise.evaluate.result import Table

PARAMETERS = [
    options.option("--model", metavar="MODEL", help="A folder, a Hub id, or URL#NAME on a server."),
    options.option("--outputs", type=options.FILE, help="Answers in alpaca_eval's format, instead of a model."),
    options.option(
        "--eval-set", type=options.FILE, required=True, help="Instructions with the baseline's outputs, JSON or JSONL."
    ),
    options.option("--prompt", type=options.FILE, help="Another judge prompt of alpaca_eval's form."),
    options.option(
        "--calibration", type=options.FILE, help="AlpacaEval's df_gamed.csv, for its length-controlled rate."
    ),
    *options.judging(),
    *options.answering(max_new_tokens=2048),
]


def run(
    *,
    model: str | None,
    outputs: Path | None,
    eval_set: Path,
    prompt: Path | None,
    calibration: Path | None,
    judge: str,
    concurrency: int,
    attempts: int,
    out: Path | None,
    chat_template: str | None,
    max_new_tokens: int,
    batch_size: int,
) -> dict[str, Any]:
    """Answer, judge in both orders, write; returns what `--json` prints."""
    options.exactly_one({"--model": model, "--outputs": outputs}, "answers")
    from poise.answering import claimed, open_engine, open_server
    from poise.evaluate import alpaca, alpaca_files
    from poise.evaluate.journal import Journal
    from poise.evaluate.judge import open_judge, require_any, warn_of_itself
    from poise.evaluate.length_control import read_calibration
    from poise.evaluate.mtbench_files import file_name
    from poise.evaluate.result import Result
    from poise.run import file_sha256

    baseline = alpaca_files.read_outputs(eval_set)
    table_of_gamed = read_calibration(calibration) if calibration else None
    if table_of_gamed is not None:
        alpaca.check_calibrated(baseline, table_of_gamed)
    given: list[Answer] = []
    rows = alpaca_files.read_outputs(outputs) if outputs else []
    name = str(model) if model else rows[0].get("generator") or str(outputs)
    folder = out or Path("evaluations") / "alpaca" / file_name(name)
    with claimed(folder):
        server = open_server(judge, folder, concurrency=concurrency, attempts=attempts)
        grader = open_judge(server, needs_logprobs=True)
        if model is not None:
            engine = open_engine(
                model,
                folder,
                chat_template=chat_template,
                batch_size=batch_size,
                concurrency=concurrency,
                attempts=attempts,
            )
            name = engine.name
            given = alpaca.answer_instructions(engine, baseline, Journal(folder / "answers.jsonl"), max_new_tokens)
            alpaca_files.write_outputs(folder / "model_outputs.json", name, baseline, [each.text for each in given])
            rows = alpaca_files.read_outputs(folder / "model_outputs.json")
        pairs = alpaca.pair_up(baseline, rows)
        template = prompt or alpaca.TEMPLATE
        verdicts = alpaca.judge_pairs(grader, pairs, template.read_text(encoding="utf-8"))
        base_name = baseline[0].get("generator") or "baseline"
        alpaca.write_annotations(
            folder / "annotations.json", pairs, verdicts, baseline=base_name, model=name, annotator=grader.name
        )
        require_any(sum(each.preference is not None for each in verdicts), grader, folder)
        preferences = [None if each.preference is None else 1 + each.preference for each in verdicts]
        judged_by = {**grader.identity(), "mode": grader.mode, "prompt": file_sha256(template)}
        said = [(each.text, each.stopped) for each in given] or [(pair.output, True) for pair in pairs]
        result = Result(
            kind="alpaca",
            model=name,
            tables=[
                _with_length(alpaca.table(pairs, verdicts), pairs, verdicts, table_of_gamed),
                alpaca.reliability(verdicts),
            ],
            items=alpaca.items(pairs, verdicts, [judged_by]),
            judge=grader.identity(),
            notes=[*_mode(grader.gives_logprobs), *warn_of_itself(grader, [name, base_name]), *options.notes_on(said)],
            settings={**judged_by, "eval_set": str(eval_set), "baseline": base_name, "both_orders": True},
            figures=alpaca.figures(preferences, [len(pair.output) for pair in pairs]),
        )
        result.write(folder)
    return result.as_json(folder)


def told(result: dict[str, Any]) -> str:
    """Show the tables."""
    from poise.evaluate.result import told as tables

    return tables(result)


def _with_length(table: "Table", pairs: "list[Pair]", verdicts: "list[Verdict]", calibration: Any) -> "Table":
    """Put the rate at equal lengths second: AlpacaEval's own where it is calibrated, else one of another name."""
    from dataclasses import replace

    from poise.evaluate import alpaca, length_control
    from poise.evaluate.result import Line

    scored = [number for number, verdict in enumerate(verdicts) if verdict.preference is not None]
    judged = alpaca.judged([pairs[number] for number in scored], [verdicts[number] for number in scored])
    if calibration is not None:
        line = Line(
            "length-controlled win rate", length_control.length_controlled(judged, scored, calibration).scaled(100)
        )
    else:
        adjusted = length_control.length_adjusted(judged).scaled(100)
        line = Line("length-adjusted win rate (not AlpacaEval's)", adjusted)
    return replace(table, lines=[table.lines[0], line, *table.lines[1:]])


def _mode(by_logprobs: bool) -> list[str]:
    if by_logprobs:
        return []
    return [
        "the judge returns no log-probabilities: each verdict counts as 0 or 1, so the rate is no AlpacaEval 2 rate"
    ]
