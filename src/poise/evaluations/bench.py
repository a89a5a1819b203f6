"""Ask a model the tasks of lm-evaluation-harness: the nine of bagel's table, or any others."""

from pathlib import Path
from typing import Any

from poise.errors import RecipeError
from poise.evaluations import _options as options

NINE = "arc_challenge,boolq,gsm8k,hellaswag,mmlu,openbookqa,piqa,truthful_qa,winogrande"
PARAMETERS = [
    options.option("--model", required=True, metavar="MODEL", help="A folder or a Hub id."),
    options.option("--tasks", default=NINE, help="Names of the harness's tasks and groups, with commas between them."),
    options.option("--shots", multiple=True, metavar="[TASK=]N", help="Examples in a prompt; by default the task's."),
    options.option("--limit", type=options.AT_LEAST_ONE, help="Ask the first documents of each task alone."),
    options.option("--data", type=options.FOLDER, help="Take every task's data from here: TASK/SPLIT.jsonl."),
    options.option("--include", type=options.FOLDER, help="A folder of your own tasks, as the harness reads them."),
    options.option("--run-code", is_flag=True, help="Allow tasks that run code: a model's, or that of --include."),
    options.option("--chat-template", help="Ask within it: own, a name (chatml, zephyr, …) or a .jinja file."),
    options.option("--max-length", type=options.AT_LEAST_ONE, help="Tokens the model reads; its own by default."),
    options.option("--tokens", type=options.AT_LEAST_ONE, default=8192, help="Tokens computed together."),
    options.option("--batch-size", type=options.AT_LEAST_ONE, default=32, help="Answers generated together."),
    options.option("--out", type=options.FOLDER, help="The folder to write; evaluations/bench/MODEL by default."),
]


def run(
    *,
    model: str,
    tasks: str,
    shots: tuple[str, ...],
    limit: int | None,
    data: Path | None,
    include: Path | None,
    run_code: bool,
    chat_template: str | None,
    max_length: int | None,
    tokens: int,
    batch_size: int,
    out: Path | None,
) -> dict[str, Any]:
    """Load, ask, write; returns what `--json` prints."""
    from poise.answering import claimed, is_served, load_bare
    from poise.evaluate import bench
    from poise.evaluate.journal import Journal
    from poise.evaluate.mtbench_files import file_name
    from poise.evaluate.result import Result
    from poise.evaluate.tasks import load_benchmarks, read_shots

    if is_served(model):
        raise RecipeError(
            f"{model} is served, and a chat server does not tell the probability of a given answer\n"
            "    to do:  name the model's folder"
        )
    names = list(dict.fromkeys(name for name in tasks.split(",") if name))
    by_task = read_shots(shots)
    if strangers := [name for name in by_task if name and name not in names]:
        raise RecipeError(f"--shots names {strangers[0]}, which --tasks does not")
    benchmarks = load_benchmarks(names, data=data, include=include, run_code=run_code, shots=by_task)
    folder = out or Path("evaluations") / "bench" / file_name(model)
    with claimed(folder):
        from poise.evaluate.harness import PrefixSharing

        loaded, tokenizer, identity = load_bare(model, chat_template)
        asking = PrefixSharing(
            loaded,
            tokenizer,
            tokens=tokens,
            batch_size=batch_size,
            max_length=max_length,
            journal=Journal(folder / "answers.jsonl"),
            identity=identity,
        )
        in_template = chat_template is not None
        found = bench.evaluate(asking, benchmarks, limit=limit, in_template=in_template, run_code=run_code)
        settings = {
            "tasks": bench.asked(benchmarks),
            "chat_template": chat_template,
            "data": str(data or "the Hub"),
            "limit": limit,
            "max_length": asking.max_length,
            "harness": _version(),
            **identity,
        }
        result = Result(
            kind="bench",
            model=model,
            tables=bench.tables(found, benchmarks),
            items=bench.items(found, benchmarks),
            notes=[*bench.notes(found, benchmarks, limit=limit, in_template=in_template), *asking.notes],
            settings=settings,
            figures={
                "harness": bench.figures(found),
                "tokens_asked": asking.asked,
                "tokens_computed": asking.computed,
            },
        )
        result.write(folder)
    return result.as_json(folder)


def told(result: dict[str, Any]) -> str:
    """Show the tables, and how much was computed once."""
    from poise.evaluate.result import told as tables

    figures = result["figures"]
    shared = f"{figures['tokens_computed']:,} tokens computed for {figures['tokens_asked']:,} asked"
    return f"{tables(result)}\n{shared}" if figures["tokens_asked"] else tables(result)


def _version() -> str:
    from importlib.metadata import version

    return f"lm_eval {version('lm_eval')}"
