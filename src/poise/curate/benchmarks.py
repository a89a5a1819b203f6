"""The benchmarks that training rows are kept apart from: where each is published, and the texts that give an item away.

    gsm8k     {"question": "Janet’s ducks lay 16 eggs per day. …", "answer": "… #### 18"}
    mt_bench  {"question_id": 81, "category": "writing", "turns": ["Compose an engaging travel blog …", "Rewrite …"]}

A set of your own is a file or folder whose rows have a column `question`, `prompt`, `messages` or `text`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from poise.errors import DataError, Problem, RecipeError, list_problems
from poise.names import did_you_mean
from poise.sources.dataset import Schema, check
from poise.sources.files import read_file
from poise.sources.hub import download
from poise.sources.refusal import FileError, RowError
from poise.sources.spec import SourceSpec
from poise.sources.tables import Table, tables_of
from poise.sources.turns import messages_in, text_in, turns_in

Row = Mapping[str, Any]
Texts = Callable[[Row], tuple[str, ...]]

CHOICES = {"text": [str], "label": [str]}
OWN_COLUMNS = ("question", "prompt", "messages", "text")


@dataclass(frozen=True)
class Item:
    """One question of a benchmark, in every form that gives it away."""

    benchmark: str
    id: str
    """The set's own id, or `table:row`."""
    texts: tuple[str, ...]
    """Any of them is a leak; the question alone first, then with choices, then with the right answer."""
    passage: str = ""
    """What the question is about, if the set asks about passages: a leak holds both, because a passage under another
    question, or a question like "How many points were scored?" under another passage, gives nothing away."""


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark is published and what is read of its rows."""

    hub: str
    """Id on the Hub."""
    columns: Schema
    """What is read of a row; further columns do no harm."""
    texts: Texts
    """From a row to what gives it away, the shortest first."""
    config: str | None = None
    splits: tuple[str, ...] = ("test",)
    """Those that results are reported on; both where the labels of one are hidden and people report the other."""
    files: tuple[str, ...] = ()
    """The data files in its repository, where `load_dataset` cannot load it."""
    id: str | None = None
    """The column of its own ids."""
    passage: str | None = None
    """The column of what is asked about."""


def load_benchmark(name: str, path: str | Path | None = None, revision: str | None = None) -> list[Item]:
    """Read a benchmark from a local copy, or from the Hub; of a `name` that is not known, a set of your own.

    Raises:
        RecipeError: The name is not known and there is no path.
        DataError: Rows that are not as published, all of them with table, row and column.
    """
    known = BENCHMARKS.get(name)
    if known is None and path is None:
        raise RecipeError(unknown_benchmark(name))
    items: list[Item] = []
    problems: list[Problem] = []
    for table in _tables(known, path, revision):
        try:
            for number, row in table.read():
                try:
                    items.append(_item(name, known, row, f"{table.name}:{number}"))
                except RowError as error:
                    problems.append(error.problem(f"{table.place}:{number}"))
        except FileError as error:
            problems.append(error.problem)
    if problems:
        count = f"{len(problems):,} problem" + ("s" if len(problems) > 1 else "")
        raise DataError(f"benchmark {name}: {count}\n{list_problems(problems)}")
    if not items:
        raise DataError(f"benchmark {name}: no rows\n    why:    nothing could be kept out of training")
    return items


def unknown_benchmark(name: str) -> str:
    """Say which benchmarks there are."""
    return (
        f"there is no benchmark {name!r}{did_you_mean(name, BENCHMARKS)}; there are {', '.join(BENCHMARKS)}. "
        "A set of your own needs `path`"
    )


def _tables(known: Benchmark | None, path: str | Path | None, revision: str | None) -> list[Table]:
    if path is not None:
        return _local_tables(known, Path(path).expanduser(), revision)
    assert known is not None
    if known.files:
        downloaded = [(name, download(known.hub, name, revision)) for name in known.files]
        return [Table(name, f"{known.hub}/{name}", lambda file=file: read_file(file)) for name, file in downloaded]
    specs = [SourceSpec(known.hub, known.config, split, revision) for split in known.splits]
    return [table for spec in specs for table in tables_of(spec)[0]]


def _local_tables(known: Benchmark | None, path: Path, revision: str | None) -> list[Table]:
    """Find a file; or in a folder, which may hold the published set as a whole, the splits that results are told of."""
    if known is None or path.is_file():
        return tables_of(SourceSpec(str(path), split=None, revision=revision))[0]
    folder = path / known.config if known.config and (path / known.config).is_dir() else path
    tables: list[Table] = []
    missing: DataError | None = None
    for split in known.splits:
        try:
            tables += tables_of(SourceSpec(str(folder), split=split, revision=revision))[0]
        except DataError as error:
            missing = error
    if missing is not None and not tables:
        raise missing
    return tables


def _item(name: str, known: Benchmark | None, row: dict[str, Any] | RowError, place: str) -> Item:
    if isinstance(row, RowError):
        raise row
    if known is None:
        return Item(name, place, _own_texts(row))
    check(row, known.columns)
    try:
        texts = known.texts(row)
    except (IndexError, ValueError) as error:
        raise RowError(
            "wrong value",
            "",
            f"its columns do not fit one another: {error}",
            "the right answer is one of the forms that give an item away",
            "load the published files",
        ) from None
    own_id = str(row[known.id]) if known.id else place
    return Item(name, own_id, texts, row[known.passage] if known.passage else "")


def _own_texts(row: Row) -> tuple[str, ...]:
    """Return what a set of the user's own asks: the text of its column, or the user turns of its messages."""
    column = next((name for name in OWN_COLUMNS if name in row), None)
    if column is None:
        raise RowError(
            "missing column",
            "",
            f"there is no {', '.join(OWN_COLUMNS[:-1])} or {OWN_COLUMNS[-1]} here; "
            f"this row has {', '.join(map(repr, row)) or 'nothing'}",
            "one of these columns says what is asked",
            "rename the column that holds the questions",
        )
    if column in ("question", "text"):
        return (text_in(row, column),)
    turns = turns_in(row, "prompt", "user") if column == "prompt" else messages_in(row, column)
    return tuple(turn.content for turn in turns if turn.role == "user")


def _columns(*names: str) -> Texts:
    """Take each column as a text of its own."""
    return lambda row: tuple(row[name] for name in names)


def _with_choices(
    question: str, choices: Sequence[str], right: int | None, labels: Sequence[str] = ascii_uppercase
) -> tuple[str, ...]:
    """Return a question alone, with its choices under labels and without, and with the right answer."""
    labelled = "\n".join([question, *(f"{label}. {choice}" for label, choice in zip(labels, choices, strict=False))])
    answered = () if right is None else (f"{question}\n{choices[right]}",)
    return (question, labelled, "\n".join([question, *choices]), *answered)


def _labelled_choices(question: str) -> Texts:
    """Take a question whose choices have labels, one of which is the `answerKey`."""

    def texts(row: Row) -> tuple[str, ...]:
        choices, labels = row["choices"]["text"], row["choices"]["label"]
        right = labels.index(row["answerKey"]) if row["answerKey"] in labels else None
        return _with_choices(row[question], choices, right, labels)

    return texts


def _first_turn(row: Row) -> tuple[str, ...]:
    """Take the first turn: a second one such as "Rewrite your previous response." gives nothing away alone."""
    return (row["turns"][0],)


def _with_answer(row: Row) -> tuple[str, ...]:
    return row["question"], f"{row['question']}\n{row['answer']}"


def _mmlu(row: Row) -> tuple[str, ...]:
    return _with_choices(row["question"], row["choices"], row["answer"])


def _truthfulqa(row: Row) -> tuple[str, ...]:
    targets = row["mc1_targets"]
    return _with_choices(row["question"], targets["choices"], targets["labels"].index(1))


def _piqa(row: Row) -> tuple[str, ...]:
    """Take a goal with either solution: the labels of the test split are hidden."""
    solutions = [row["sol1"], row["sol2"]]
    return (*_with_choices(row["goal"], solutions, None), *(f"{row['goal']}\n{solution}" for solution in solutions))


def _hellaswag(row: Row) -> tuple[str, ...]:
    """Take a context as it is and as articles have it, without the marks [header], [title] and [step]."""
    right = int(row["label"]) if row["label"] else None
    plain = re.sub(r"\[(?:header|title|step|substeps)\]", " ", row["ctx"])
    return tuple(dict.fromkeys([plain, *_with_choices(row["ctx"], row["endings"], right)]))


def _winogrande(row: Row) -> tuple[str, ...]:
    """Take a sentence with its gap, and with either option in it."""
    sentence = row["sentence"]
    return sentence, *(sentence.replace("_", row[option]) for option in ("option1", "option2"))


def _humaneval(row: Row) -> tuple[str, ...]:
    """Take what the docstring describes, without its examples, which are easily changed; the prompt; the solution."""
    docstring = re.split(r'"""|\'\'\'', row["prompt"])[-2:][0]
    description = re.split(r">>>|\b(?:for )?examples?\b", docstring, maxsplit=1, flags=re.IGNORECASE)[0]
    return description, row["prompt"], row["canonical_solution"]


def _arc(config: str) -> Benchmark:
    return Benchmark(
        hub="allenai/ai2_arc",
        config=config,
        splits=("test", "validation"),
        columns={"id": str, "question": str, "choices": CHOICES, "answerKey": str},
        texts=_labelled_choices("question"),
        id="id",
    )


BENCHMARKS: dict[str, Benchmark] = {
    "alpaca_eval": Benchmark(
        hub="tatsu-lab/alpaca_eval",
        files=("alpaca_eval.json",),
        splits=("eval",),
        columns={"instruction": str},
        texts=_columns("instruction"),
    ),
    "mt_bench": Benchmark(
        hub="lighteval/mt-bench",
        splits=("train",),
        columns={"question_id": int, "turns": [str]},
        texts=_first_turn,
        id="question_id",
    ),
    "arc_challenge": _arc("ARC-Challenge"),
    "arc_easy": _arc("ARC-Easy"),
    "boolq": Benchmark(
        hub="google/boolq",
        splits=("validation",),
        columns={"question": str, "passage": str},
        texts=_columns("question"),
        passage="passage",
    ),
    "drop": Benchmark(
        hub="ucinlp/drop",
        splits=("validation",),
        columns={"query_id": str, "passage": str, "question": str},
        texts=_columns("question"),
        id="query_id",
        passage="passage",
    ),
    "gsm8k": Benchmark(
        hub="openai/gsm8k",
        config="main",
        columns={"question": str, "answer": str},
        texts=_with_answer,
    ),
    "hellaswag": Benchmark(
        hub="Rowan/hellaswag",
        splits=("test", "validation"),
        columns={"ctx": str, "endings": [str], "label": (str, None)},
        texts=_hellaswag,
    ),
    "humaneval": Benchmark(
        hub="openai/openai_humaneval",
        columns={"task_id": str, "prompt": str, "canonical_solution": str},
        texts=_humaneval,
        id="task_id",
    ),
    "mbpp": Benchmark(
        hub="google-research-datasets/mbpp",
        config="full",
        columns={"task_id": int, "text": str, "code": str},
        texts=_columns("text", "code"),
        id="task_id",
    ),
    "mmlu": Benchmark(
        hub="cais/mmlu",
        config="all",
        splits=("test", "validation"),
        columns={"question": str, "choices": [str], "answer": int},
        texts=_mmlu,
    ),
    "openbookqa": Benchmark(
        hub="allenai/openbookqa",
        config="main",
        splits=("test", "validation"),
        columns={"id": str, "question_stem": str, "choices": CHOICES, "answerKey": str},
        texts=_labelled_choices("question_stem"),
        id="id",
    ),
    "piqa": Benchmark(
        hub="baber/piqa",
        splits=("test", "validation"),
        columns={"goal": str, "sol1": str, "sol2": str},
        texts=_piqa,
    ),
    "squad_v2": Benchmark(
        hub="rajpurkar/squad_v2",
        splits=("validation",),
        columns={"id": str, "context": str, "question": str},
        texts=_columns("question"),
        id="id",
        passage="context",
    ),
    "truthfulqa": Benchmark(
        hub="truthfulqa/truthful_qa",
        config="multiple_choice",
        splits=("validation",),
        columns={"question": str, "mc1_targets": {"choices": [str], "labels": [int]}},
        texts=_truthfulqa,
    ),
    "winogrande": Benchmark(
        hub="allenai/winogrande",
        config="winogrande_xl",
        splits=("test", "validation"),
        columns={"sentence": str, "option1": str, "option2": str},
        texts=_winogrande,
    ),
}
"""Ids as they load with `datasets` 4 and later, which runs no loading scripts; therefore mirrors of mt_bench (the rows
of FastChat's question.jsonl) and piqa, and the plain file of alpaca_eval."""
