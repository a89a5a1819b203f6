import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poise.examples import Document
from poise.sources import SourceSpec, load

TEXT = " It's “fine”,\r\n\tsays\u2028she \U0001f600 "


def texts(path: Path) -> list[str]:
    examples = load(SourceSpec(str(path))).examples
    return [example.text for example in examples if isinstance(example, Document)]


def write_jsonl(path: Path) -> None:
    path.write_bytes(b"".join(json.dumps({"text": text}).encode() + b"\n" for text in (TEXT, "b")))


def write_unescaped_jsonl(path: Path) -> None:
    path.write_bytes(b"\r\n\n".join(json.dumps({"text": t}, ensure_ascii=False).encode() for t in (TEXT, "b")))


def write_json(path: Path) -> None:
    path.write_bytes(json.dumps([{"text": TEXT}, {"text": "b"}], indent=1).encode())


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text"], ["1", TEXT], ["2", "b"]])


def write_tsv(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([["text"], [TEXT], ["b"]])


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": [TEXT, "b"]}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", write_jsonl),
        ("a.jsonl", write_unescaped_jsonl),
        ("a.JSONL", write_jsonl),
        ("a.json", write_json),
        ("a.json", write_jsonl),
        ("a.csv", write_csv),
        ("a.tsv", write_tsv),
        ("a.parquet", write_parquet),
    ],
)
def test_text_is_read_byte_for_byte(tmp_path: Path, name: str, write: Callable[[Path], None]):
    write(tmp_path / name)
    assert texts(tmp_path / name) == [TEXT, "b"]


@pytest.mark.parametrize(
    ("name", "write"), [("a.jsonl", write_jsonl), ("a.json", write_json), ("a.csv", write_csv), ("a.tsv", write_tsv)]
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_gzip_and_byte_order_mark_change_nothing(tmp_path: Path, name: str, write: Callable[[Path], None], mark: bytes):
    write(tmp_path / name)
    compressed = tmp_path / f"{name}.gz"
    compressed.write_bytes(gzip.compress(mark + (tmp_path / name).read_bytes()))
    assert texts(compressed) == [TEXT, "b"]


def test_row_of_a_line_file_is_its_line_and_blank_lines_are_no_rows(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n{"text": "b"}\n\n')
    loaded = load(SourceSpec(str(tmp_path / "a.jsonl")))
    assert [example.lineage for example in loaded.examples] == [("a.jsonl:1",), ("a.jsonl:3",)]
    assert loaded.rows_in == {"a.jsonl": 2}


def test_csv_cell_longer_than_pythons_limit_is_read_and_the_limit_is_left_alone(tmp_path: Path):
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("text\n" + "x" * 1_000_000 + "\n")
    assert [len(text) for text in texts(tmp_path / "a.csv")] == [1_000_000]
    assert csv.field_size_limit() == before


def test_parquet_of_many_batches_numbers_its_rows_through(tmp_path: Path):
    pq.write_table(pa.table({"text": [str(row) for row in range(2500)]}), tmp_path / "a.parquet")
    last = load(SourceSpec(str(tmp_path / "a.parquet"))).examples[-1]
    assert (last, last.lineage) == (Document("2499", "a.parquet", ("a.parquet:2500",)), ("a.parquet:2500",))


def test_nan_in_a_column_that_is_not_used_does_no_harm(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "score": NaN}\n')
    assert texts(tmp_path / "a.jsonl") == ["a"]


def test_file_that_was_rewritten_within_the_same_second_is_read_anew(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    for text in ("a", "b"):
        path.write_text(json.dumps({"text": text}) + "\n")
        os.utime(path, (1, 1))
        assert texts(path) == [text]
