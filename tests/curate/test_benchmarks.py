"""Benchmarks: every set gives the texts of its variants; a row that is not as published is told."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poise.curate.benchmarks import BENCHMARKS, Item, load_benchmark
from poise.errors import DataError, RecipeError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

ARC = {
    "id": "Mercury_1",
    "question": "Which gas do plants take in?",
    "choices": {"text": ["oxygen", "carbon dioxide"], "label": ["1", "2"]},
    "answerKey": "2",
}
ARC_TEXTS = (
    "Which gas do plants take in?",
    "Which gas do plants take in?\n1. oxygen\n2. carbon dioxide",
    "Which gas do plants take in?\noxygen\ncarbon dioxide",
    "Which gas do plants take in?\ncarbon dioxide",
)
HUMANEVAL = '''def f(x):
    """ Double the number.
    >>> f(2)
    4
    """
'''
ROWS: dict[str, tuple[dict[str, Any], Item]] = {
    "alpaca_eval": (
        {"instruction": "Name a tree.", "output": "Oak", "generator": "text_davinci_003", "dataset": "koala"},
        Item("alpaca_eval", "rows.jsonl:1", ("Name a tree.",)),
    ),
    "mt_bench": (
        {"question_id": 81, "category": "writing", "turns": ["Write a poem.", "Rewrite it."]},
        Item("mt_bench", "81", ("Write a poem.",)),
    ),
    "arc_challenge": (ARC, Item("arc_challenge", "Mercury_1", ARC_TEXTS)),
    "arc_easy": (ARC, Item("arc_easy", "Mercury_1", ARC_TEXTS)),
    "boolq": (
        {"question": "is the sky blue", "answer": True, "passage": "The sky is blue."},
        Item("boolq", "rows.jsonl:1", ("is the sky blue",), "The sky is blue."),
    ),
    "drop": (
        {"section_id": "nfl_1", "query_id": "q1", "passage": "They won.", "question": "Who won?",
         "answers_spans": {"spans": ["They"], "types": ["span"]}},
        Item("drop", "q1", ("Who won?",), "They won."),
    ),
    "gsm8k": (
        {"question": "What is 2 + 2?", "answer": "It is <<2+2=4>>4.\n#### 4"},
        Item("gsm8k", "rows.jsonl:1", ("What is 2 + 2?", "What is 2 + 2?\nIt is <<2+2=4>>4.\n#### 4")),
    ),
    "hellaswag": (
        {"ind": 1, "ctx": "[header] How to swim [title] Float. A boy", "endings": ["floats.", "flies."], "label": "0"},
        Item(
            "hellaswag",
            "rows.jsonl:1",
            (
                "  How to swim   Float. A boy",
                "[header] How to swim [title] Float. A boy",
                "[header] How to swim [title] Float. A boy\nA. floats.\nB. flies.",
                "[header] How to swim [title] Float. A boy\nfloats.\nflies.",
                "[header] How to swim [title] Float. A boy\nfloats.",
            ),
        ),
    ),
    "humaneval": (
        {"task_id": "HumanEval/0", "prompt": HUMANEVAL, "canonical_solution": "    return 2 * x\n", "test": "",
         "entry_point": "f"},
        Item("humaneval", "HumanEval/0", (" Double the number.\n    ", HUMANEVAL, "    return 2 * x\n")),
    ),
    "mbpp": (
        {"task_id": 11, "text": "Write a function to double a number.", "code": "def f(x):\n  return 2 * x",
         "test_list": []},
        Item("mbpp", "11", ("Write a function to double a number.", "def f(x):\n  return 2 * x")),
    ),
    "mmlu": (
        {"question": "What is 2 + 2?", "subject": "math", "choices": ["3", "4"], "answer": 1},
        Item(
            "mmlu",
            "rows.jsonl:1",
            ("What is 2 + 2?", "What is 2 + 2?\nA. 3\nB. 4", "What is 2 + 2?\n3\n4", "What is 2 + 2?\n4"),
        ),
    ),
    "openbookqa": (
        {"id": "8-1", "question_stem": "Ice is", "choices": {"text": ["hot", "cold"], "label": ["A", "B"]},
         "answerKey": "B"},
        Item("openbookqa", "8-1", ("Ice is", "Ice is\nA. hot\nB. cold", "Ice is\nhot\ncold", "Ice is\ncold")),
    ),
    "piqa": (
        {"goal": "Boil eggs.", "sol1": "Use water.", "sol2": "Use sand.", "label": -1},
        Item(
            "piqa",
            "rows.jsonl:1",
            (
                "Boil eggs.",
                "Boil eggs.\nA. Use water.\nB. Use sand.",
                "Boil eggs.\nUse water.\nUse sand.",
                "Boil eggs.\nUse water.",
                "Boil eggs.\nUse sand.",
            ),
        ),
    ),
    "squad_v2": (
        {"id": "5ad", "title": "Normans", "context": "The Normans came.", "question": "Who came?",
         "answers": {"text": [], "answer_start": []}},
        Item("squad_v2", "5ad", ("Who came?",), "The Normans came."),
    ),
    "truthfulqa": (
        {"question": "Do pigs fly?", "mc1_targets": {"choices": ["They do.", "They do not."], "labels": [0, 1]},
         "mc2_targets": {"choices": [], "labels": []}},
        Item(
            "truthfulqa",
            "rows.jsonl:1",
            (
                "Do pigs fly?",
                "Do pigs fly?\nA. They do.\nB. They do not.",
                "Do pigs fly?\nThey do.\nThey do not.",
                "Do pigs fly?\nThey do not.",
            ),
        ),
    ),
    "winogrande": (
        {"sentence": "Ann beat Eve because _ was fast.", "option1": "Ann", "option2": "Eve", "answer": ""},
        Item(
            "winogrande",
            "rows.jsonl:1",
            (
                "Ann beat Eve because _ was fast.",
                "Ann beat Eve because Ann was fast.",
                "Ann beat Eve because Eve was fast.",
            ),
        ),
    ),
}  # fmt: skip


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_row_becomes_an_item_with_its_variants(name: str, tmp_path: Path) -> None:
    row, item = ROWS[name]
    assert load_benchmark(name, write(tmp_path / "rows.jsonl", row)) == [item]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_row_without_a_column_is_told_with_benchmark_row_and_column(name: str, tmp_path: Path) -> None:
    row, _ = ROWS[name]
    for column in BENCHMARKS[name].columns:
        cut = {key: value for key, value in row.items() if key != column}
        path = write(tmp_path / "rows.jsonl", row, cut)
        with pytest.raises(
            DataError, match=rf"benchmark {name}: 1 problem\n.*rows.jsonl:2 {column}: there is no column"
        ):
            load_benchmark(name, path)


def test_hidden_labels_leave_out_the_right_answer(tmp_path: Path) -> None:
    row = ROWS["hellaswag"][0] | {"ctx": "A boy", "label": ""}
    (item,) = load_benchmark("hellaswag", write(tmp_path / "rows.jsonl", row))
    assert item.texts == ("A boy", "A boy\nA. floats.\nB. flies.", "A boy\nfloats.\nflies.")
    (item,) = load_benchmark("arc_easy", write(tmp_path / "rows.jsonl", ARC | {"answerKey": ""}))
    assert item.texts == ARC_TEXTS[:3]


@pytest.mark.parametrize(
    ("name", "change"),
    [("mmlu", {"answer": 7}), ("mt_bench", {"turns": []}), ("hellaswag", {"label": "first"})],
)
def test_values_that_do_not_fit_one_another_are_told(name: str, change: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS[name][0] | change)
    with pytest.raises(DataError, match=f"benchmark {name}: 1 problem\n.*rows.jsonl:1: its columns do not fit"):
        load_benchmark(name, path)


def test_all_bad_rows_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"question": "a", "answer": "b"}, {"question": "a"}, {"answer": "b"})
    with pytest.raises(DataError, match=r"gsm8k: 2 problems\n.*:2 answer.*\n.*\n.*\n.*:3 question"):
        load_benchmark("gsm8k", path)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_of_a_copy_of_the_whole_set_only_config_and_splits_of_results_are_read(ending: str, tmp_path: Path) -> None:
    for config, split in (("ARC-Easy", "test"), ("ARC-Challenge", "test"), ("ARC-Easy", "train")):
        write(tmp_path / config / f"{split}-00000-of-00001{ending}", ARC | {"id": f"{config} {split}"})
    assert [item.id for item in load_benchmark("arc_easy", tmp_path)] == ["ARC-Easy test"]


def test_test_and_validation_are_both_read(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write(tmp_path / f"{split}.jsonl", ARC | {"id": split})
    assert [item.id for item in load_benchmark("arc_easy", tmp_path)] == ["test", "validation"]


def test_a_folder_that_does_not_say_which_file_is_the_test_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "questions.jsonl", ROWS["gsm8k"][0])
    with pytest.raises(DataError, match="no split 'test'"):
        load_benchmark("gsm8k", tmp_path)


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"question": "Why?", "text": "No."}, ("Why?",)),
        ({"prompt": "Why?"}, ("Why?",)),
        (
            {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]},
            ("Why?",),
        ),
        (
            {
                "messages": [
                    {"from": "human", "value": "a"},
                    {"from": "gpt", "value": "b"},
                    {"from": "human", "value": "c"},
                ]
            },
            ("a", "c"),
        ),
        ({"text": "Why?", "answer": "So."}, ("Why?",)),
    ],
)
def test_a_set_of_ones_own_is_read_by_its_columns(row: dict[str, Any], texts: tuple[str, ...], tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl", row)
    assert load_benchmark("mine", path) == [Item("mine", "own.jsonl:1", texts)]


def test_every_file_of_ones_own_folder_is_read(tmp_path: Path) -> None:
    for name in ("a", "train"):
        write(tmp_path / f"{name}.jsonl", {"question": name})
    assert [item.texts for item in load_benchmark("mine", tmp_path)] == [("a",), ("train",)]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"query": "Why?"}, r"own.jsonl:1: there is no question, prompt, messages or text here; this row has 'query'"),
        ({"question": None}, "own.jsonl:1 question: null where a value is expected"),
        ({"question": 7}, "own.jsonl:1 question: a number where text is expected"),
    ],
)
def test_a_row_of_ones_own_that_asks_nothing_is_told(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"benchmark mine: 1 problem\n.*{told}"):
        load_benchmark("mine", write(tmp_path / "own.jsonl", row))


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"no benchmark 'arc'; .*hellaswag.*needs `path`"):
        load_benchmark("arc")


def test_a_file_that_is_empty_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"benchmark mine: 1 problem\n.*is empty"):
        load_benchmark("mine", tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="no such file or folder"):
        load_benchmark("gsm8k", tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    ("name", "file", "count", "last"),
    [("gsm8k", "gsm8k/test.jsonl", 1319, "test.jsonl:1319"), ("mt_bench", "mt-bench/question.jsonl", 80, "160")],
)
def test_the_published_files_are_read(name: str, file: str, count: int, last: str) -> None:
    if not (SHARED / file).is_file():
        pytest.skip(f"the published file is not at {SHARED / file}")
    items = load_benchmark(name, SHARED / file)
    assert len(items) == count
    assert items[-1].id == last
    assert all(item.texts[0] for item in items)
