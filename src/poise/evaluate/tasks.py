"""Tasks of lm-evaluation-harness: the nine columns of bagel's table, any other by its name, and local data for each.

DATA/arc_challenge/test.jsonl           a folder a task, a file a split: .jsonl, .json, .parquet or .csv
DATA/mmlu/anatomy/dev.jsonl             a folder a subject
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.errors import DataError, ModelError, RecipeError
from poise.names import did_you_mean

SEED = 1234
"""The harness's own, by which it draws the examples of a prompt."""
FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


@dataclass(frozen=True)
class Column:
    """A column of bagel's table: which task of the harness fills it, by which number."""

    task: str
    folder: str
    """Where the harness keeps it."""
    metrics: tuple[str, ...]
    """`metric,filter` as the harness names results; the first is the one that items are compared by."""


COLUMNS = {
    "arc_challenge": Column("arc_challenge", "arc", ("acc_norm,none", "acc,none")),
    "boolq": Column("boolq", "super_glue/boolq", ("acc,none",)),
    "gsm8k": Column("gsm8k", "gsm8k", ("exact_match,strict-match", "exact_match,flexible-extract")),
    "hellaswag": Column("hellaswag", "hellaswag", ("acc_norm,none", "acc,none")),
    "mmlu": Column("mmlu", "mmlu/default", ("acc,none",)),
    "openbookqa": Column("openbookqa", "openbookqa", ("acc_norm,none", "acc,none")),
    "piqa": Column("piqa", "piqa", ("acc_norm,none", "acc,none")),
    "truthful_qa": Column("truthfulqa_mc2", "truthfulqa", ("acc,none",)),
    "winogrande": Column("winogrande", "winogrande", ("acc,none",)),
}
"""In the order of the table. It does not say its numbers; these are the ones the Open LLM Leaderboard took."""


@dataclass(frozen=True)
class Benchmark:
    """What one name on the command line stands for."""

    name: str
    tasks: dict[str, Any]
    """The harness's tasks by their names; one, or the members of a group."""
    metrics: tuple[str, ...]
    """Empty where all that the task counts are shown, the first first."""


def load_benchmarks(
    names: Sequence[str], *, data: Path | None, include: Path | None, run_code: bool, shots: dict[str, int]
) -> list[Benchmark]:
    """Load tasks, from the Hub or from local files.

    `shots` are by name, `""` for all; a task that says 0 in its own file keeps it, as in the harness.

    Raises:
        RecipeError: an unknown name, or a task that runs code without leave to.
        DataError: data that is absent or has another form.
        ModelError: lm_eval is not installed.
    """
    try:
        import lm_eval.tasks as harness
    except ImportError:
        raise ModelError("the harness's tasks need lm_eval\n    to do:  pip install 'poise[bench]'") from None
    if include is not None and not run_code:
        raise RecipeError(
            f"--include {include}: tasks are programs, with Python functions and templates that reach all of Python\n"
            "    to do:  read them, and add --run-code"
        )
    stock = Path(harness.__file__).parent
    paths = [stock / column.folder for column in COLUMNS.values()]
    manager = harness.TaskManager(include_path=[*paths, *([include] if include else [])], include_defaults=False)
    if any(_task_of(name) not in manager.task_index for name in names):
        manager = harness.TaskManager(include_path=[include] if include else None)  # 15,000 files, 20 s
    unknown = [name for name in names if _task_of(name) not in manager.task_index]
    if unknown:
        raise RecipeError(f"the harness has no task {unknown[0]!r}{did_you_mean(unknown[0], manager.all_tasks)}")
    return [_load(name, manager, data, run_code, shots.get(name, shots.get(""))) for name in names]


def _task_of(name: str) -> str:
    return COLUMNS[name].task if name in COLUMNS else name


def _load(name: str, manager: Any, data: Path | None, run_code: bool, shots: int | None) -> Benchmark:
    entry = manager.task_index[_task_of(name)]
    if (entry.cfg or {}).get("unsafe_code") and not run_code:
        raise RecipeError(_runs_code(name))
    try:
        tasks: dict[str, Any] = manager.load(_local(name, manager, data) if data else [entry.name])["tasks"]
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise DataError(
            f"{name} cannot be loaded ({' '.join(str(error).split())[:300]})\n"
            "    to do:  check its data; without a network, name a folder with --data"
        ) from error
    for task in tasks.values():
        if getattr(task, "UNSAFE_CODE", False) and not run_code:
            raise RecipeError(_runs_code(name))
        own = task.get_config("num_fewshot")
        task.set_config(key="num_fewshot", value=(own or 0) if shots is None or own == 0 else shots)
        task.set_fewshot_seed(seed=SEED)
    return Benchmark(name, tasks, COLUMNS[name].metrics if name in COLUMNS else ())


def _runs_code(name: str) -> str:
    return (
        f"{name} runs code that the model writes, on this machine, as you\n"
        "    to do:  leave it out, or add --run-code where nothing can be lost"
    )


def _local(name: str, manager: Any, data: Path) -> list[dict[str, Any]]:
    """Describe a task, or each member of a group that is there, with the files of a folder as its data."""
    folder = data / name
    members = {_task_of(name): folder}
    if name == "mmlu":
        members = {f"mmlu_{each.name}": each for each in sorted(folder.glob("*")) if each.is_dir()}
    unknown = [member for member in members if member not in manager.task_index]
    if unknown or not folder.is_dir() or not members:
        raise DataError(
            f"{folder} {'holds no data of ' + unknown[0] if unknown else 'is no folder with data'}\n"
            f"    to do:  put a file for each split there, {folder / ('anatomy/' if name == 'mmlu' else '')}test.jsonl"
        )
    return [_with_files(manager.task_index[member], where) for member, where in members.items()]


def _with_files(entry: Any, folder: Path) -> dict[str, Any]:
    """Take the harness's own description of a task; its data alone is other."""
    from lm_eval.tasks._yaml_loader import load_yaml

    files = {path.stem: str(path.resolve()) for path in sorted(folder.iterdir()) if path.suffix in FORMATS}
    kinds = {FORMATS[Path(path).suffix] for path in files.values()}
    if len(kinds) != 1:
        raise DataError(
            f"{folder} holds {'files of several kinds' if kinds else 'no data file'}\n"
            "    to do:  put one .jsonl, .parquet or .csv there for each split"
        )
    told = load_yaml(entry.yaml_path)
    return told | {"dataset_path": kinds.pop(), "dataset_name": None, "dataset_kwargs": {"data_files": files}}


def read_shots(given: Sequence[str]) -> dict[str, int]:
    """Read `5`, for all tasks, and `mmlu=5`."""
    shots: dict[str, int] = {}
    for text in given:
        name, found, number = text.rpartition("=")
        if not number.isdecimal() or (found and not name):
            raise RecipeError(f"--shots {json.dumps(text)} is no number\n    to do:  write 5, or mmlu=5")
        shots[name] = int(number)
    return shots
