"""Ask a model the harness's tasks, and make tables, items and figures of what the harness counts."""

import math
from collections.abc import Sequence
from typing import Any

from poise.evaluate.journal import content_key
from poise.evaluate.result import Item, Line, Table
from poise.evaluate.statistics import mean, share
from poise.evaluate.tasks import Benchmark


def evaluate(
    model: Any, benchmarks: Sequence[Benchmark], *, limit: int | None, in_template: bool, run_code: bool
) -> dict[str, Any]:
    """Return the harness's own results, with a sample for each document and filter."""
    from lm_eval.evaluator import evaluate as run

    tasks = {name: task for each in benchmarks for name, task in each.tasks.items()}
    found: Any = run(
        model, {"tasks": tasks}, limit=limit, bootstrap_iters=0, apply_chat_template=in_template,
        fewshot_as_multiturn=in_template, confirm_run_unsafe_code=run_code,
    )  # fmt: skip
    return found


def tables(found: dict[str, Any], benchmarks: Sequence[Benchmark]) -> list[Table]:
    """Return the number that each benchmark is known by, and every other that is a mean over documents."""
    firsts: list[Line] = []
    others: list[Line] = []
    for benchmark in benchmarks:
        for place, metric in enumerate(_metrics(found, benchmark)):
            scores = (_score(sample, metric) for _, sample in _samples(found, benchmark, metric))
            values = [score for score in scores if score is not None]
            if values:
                line = Line(f"{benchmark.name} ({_told(metric)}, {_shots(benchmark)})", _estimate(values))
                (others if place else firsts).append(line)
    shown = [Table("Benchmarks", "percent", firsts), Table("Other measures of the same answers", "percent", others)]
    return [table for table in shown if table.lines]


def items(found: dict[str, Any], benchmarks: Sequence[Benchmark]) -> list[Item]:
    """Return one item per document, with its first measure: what two models are compared by."""
    made: list[Item] = []
    for benchmark in benchmarks:
        for metric in _metrics(found, benchmark)[:1]:
            for task, sample in _samples(found, benchmark, metric):
                name = f"{task}/{sample['doc_id']}"
                told = [sample[key] for key in ("doc_hash", "prompt_hash", "target_hash")]
                made.append(Item(benchmark.name, name, name, content_key([metric, *told]), _score(sample, metric)))
    return made


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """Return every number as the harness aggregates it, perplexities and the like among them."""
    return {
        task: {name: value for name, value in numbers.items() if isinstance(value, int | float)}
        for task, numbers in found["results"].items()
    }


def asked(benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """Return the version and the number of examples of every task."""
    return {
        name: {"version": task.VERSION, "shots": task.get_config("num_fewshot")}
        for each in benchmarks for name, task in each.tasks.items()
    }  # fmt: skip


def notes(found: dict[str, Any], benchmarks: Sequence[Benchmark], *, limit: int | None, in_template: bool) -> list[str]:
    """Say what keeps numbers from being compared with others'."""
    said = ["asked within the model's chat template: published numbers are mostly without one"] if in_template else []
    if limit is not None:
        said.append(f"of each task the first {limit} documents alone")
    for benchmark in benchmarks:
        if benchmark.name == "mmlu" and len(benchmark.tasks) != 57:
            said.append(f"mmlu is {len(benchmark.tasks)} of its 57 subjects")
        if not any(_score(sample, metric) is not None for metric in _metrics(found, benchmark)
                   for _, sample in _samples(found, benchmark, metric)):  # fmt: skip
            said.append(f"{benchmark.name} is no mean over documents; evaluation.json has it under figures")
    return said


def _metrics(found: dict[str, Any], benchmark: Benchmark) -> list[str]:
    if benchmark.metrics:
        return list(benchmark.metrics)
    seen = (f"{metric},{sample['filter']}" for task in benchmark.tasks for sample in found["samples"][task]
            for metric in sample["metrics"])  # fmt: skip
    return list(dict.fromkeys(seen))


def _samples(found: dict[str, Any], benchmark: Benchmark, metric: str) -> list[tuple[str, dict[str, Any]]]:
    _, _, kept = metric.partition(",")
    return [(task, sample) for task in benchmark.tasks for sample in found["samples"][task] if sample["filter"] == kept]


def _score(sample: dict[str, Any], metric: str) -> float | None:
    """Return a document's number; None where it has only parts of one, which the harness puts together later."""
    value = sample.get(metric.partition(",")[0])
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and 0 <= number <= 1 else None


def _estimate(values: Sequence[float]) -> Any:
    right = set(values) <= {0.0, 1.0}
    return (share(sum(values), len(values)) if right else mean(values)).scaled(100)


def _told(metric: str) -> str:
    name, _, kept = metric.partition(",")
    return name if kept == "none" else f"{name}, {kept}"


def _shots(benchmark: Benchmark) -> str:
    counts = sorted({task.get_config("num_fewshot") for task in benchmark.tasks.values()})
    return f"{' or '.join(map(str, counts))} shots"
