"""Rows of comma- or tab-separated values, as RFC 4180 quotes them; a row's number leaves the header out."""

import csv
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from poise.sources.opening import Read, check_text, opened
from poise.sources.refusal import FileError, RowError

FIELD_BYTES = 2**31 - 1
"""A field may be this long; Python's own limit is 131,072."""


def read_csv(path: Path) -> Iterator[Read]:
    """Read comma-separated rows under a header."""
    return _read(path, ",")


def read_tsv(path: Path) -> Iterator[Read]:
    """Read tab-separated rows under a header."""
    return _read(path, "\t")


def _read(path: Path, delimiter: str) -> Iterator[Read]:
    check_text(path)
    with opened(path) as file:
        records = csv.reader(_lines(file), delimiter=delimiter, strict=True)
        header = _header(path, records)
        number = 0
        for line, cells in _records(path, records):
            if cells:
                number += 1
                yield number, _row(header, cells, line)


def _header(path: Path, records: "Iterator[list[str]]") -> list[str]:
    for _, cells in _records(path, records):
        if cells:
            break
    else:
        raise FileError(path, "has no header", "the first line names the columns", "add a line with their names")
    if cells[0].lstrip()[:1] in ("{", "["):
        raise FileError(path, "holds JSON", "its name says separated values", "rename it to end in .jsonl or .json")
    repeated = next((name for name in cells if cells.count(name) > 1), None)
    if repeated is not None:
        raise FileError(
            path, f"names the column {repeated!r} twice", "one of the two would be lost", "rename one of them"
        )
    return cells


def _records(path: Path, records: "Iterator[list[str]]") -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line it ends in; broken quoting leaves no way to tell where the next row begins."""
    while True:
        try:
            with _long_fields():
                cells = next(records, None)
        except csv.Error as error:
            raise FileError(
                f"{path}:{_line(records)}",
                f"broken quoting: {error}",
                "where a quote is open or misplaced, the rows after it cannot be told apart",
                'put the field into "quotes" and write a quote inside it as ""',
            ) from None
        if cells is None:
            return
        yield _line(records), cells


def _row(header: list[str], cells: list[str], line: int) -> "dict[str, str] | RowError":
    if len(cells) != len(header):
        return RowError(
            "ragged row",
            "",
            f"{len(cells)} fields where the header has {len(header)} (the row ends in line {line})",
            "a field would land in the wrong column",
            "quote fields that hold the separator or a line break, and give every row all fields",
        )
    row = dict(zip(header, cells, strict=True))
    for name, cell in row.items():
        if not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell):
            return RowError(
                "not UTF-8",
                f" {name}",
                f"not UTF-8 (the row ends in line {line})",
                "text is read as UTF-8 only",
                "convert the file",
            )
    return row


def _lines(file: BinaryIO) -> Iterator[str]:
    """Decode line by line; bytes that are not UTF-8 become lone surrogates, which the row is then refused for."""
    first = file.readline().removeprefix(b"\xef\xbb\xbf")
    return (line.decode(errors="surrogateescape") for line in chain([first], file))


@contextmanager
def _long_fields() -> Generator[None, None, None]:
    limit = csv.field_size_limit(FIELD_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _line(records: object) -> int:
    return int(getattr(records, "line_num", 0))
