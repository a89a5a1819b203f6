"""Load one source: find its tables, recognise the shape of each, and account for every row."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Any, Literal

from poise.errors import DataError, Problem, list_problems
from poise.examples import Example
from poise.names import did_you_mean
from poise.run import Drop
from poise.sources.form import in_its_form
from poise.sources.refusal import FileError, NothingToLearn, RowError
from poise.sources.shapes import Shape, shape_of, shapes
from poise.sources.spec import SourceSpec
from poise.sources.tables import Table, source_name, tables_of

HEAD_ROWS = 10
"""So many rows decide the shape of a table."""

TableRow = tuple[Table, int, "dict[str, Any] | RowError"]
Outcome = Example | RowError | NothingToLearn


@dataclass(frozen=True)
class Loaded:
    """The Examples of a source; rows_in = examples + drops."""

    examples: list[Example]
    rows_in: Counter[str]
    """Rows read, by source."""
    drops: list[Drop]


def load(
    spec: SourceSpec,
    *,
    on_bad_row: Literal["error", "drop"] = "error",
    prefer: type[Example] | None = None,
) -> Loaded:
    """Read every row of a source as an Example, a Drop, or part of one DataError that lists what is wrong.

    Rows that can teach nothing (`empty completion`, `chosen equals rejected`) are dropped in either case. Where the
    columns fit several shapes the most specific wins, and one that becomes a `prefer` wins over the others.
    """
    source = source_name(spec)
    tables, wanted = tables_of(spec, prefer.kind if prefer else None)
    loaded = Loaded([], Counter() if any(table.curated for table in tables) else Counter({source: 0}), [])
    file_problems: list[Problem] = []
    row_problems: list[Problem] = []
    for table, rows in groupby(wanted.cut(_rows(tables, file_problems)), key=lambda row: row[0]):
        try:
            for number, outcome, columns in _outcomes(rows, table, spec, prefer):
                lineage = f"{table.name}:{number}"
                source, before = _origin(columns) if table.curated else (source, ())
                loaded.rows_in[source] += 1
                if isinstance(outcome, NothingToLearn):
                    loaded.drops.append(Drop("load", source, lineage, outcome.reason, evidence=outcome.evidence))
                elif not isinstance(outcome, RowError):
                    loaded.examples.append(replace(outcome, source=source, lineage=(lineage, *before)))
                elif on_bad_row == "drop":
                    loaded.drops.append(
                        Drop("load", source, lineage, outcome.reason, evidence=_printable(outcome.what))
                    )
                else:
                    row_problems.append(outcome.problem(f"{table.place}:{number}"))
        except FileError as error:
            file_problems.append(error.problem)
    _raise_problems(spec, file_problems, row_problems)
    if not loaded.rows_in.total():
        raise DataError(f"{spec.name}: the split {spec.split!r} selects no rows; write a slice that does")
    return loaded


def _rows(tables: Sequence[Table], problems: list[Problem]) -> Iterator[TableRow]:
    """Read table after table; one that cannot be read is noted and the next one follows, so that all are reported."""
    for table in tables:
        number = 0
        try:
            for number, row in table.read():
                yield table, number, row
            if not number:
                raise FileError(
                    table.place, "has no rows", "there is nothing to train on", "write rows or leave it out"
                )
        except FileError as error:
            problems.append(error.problem)


def _outcomes(
    rows: Iterable[TableRow], table: Table, spec: SourceSpec, prefer: type[Example] | None
) -> Iterator[tuple[int, Outcome, "dict[str, Any] | RowError"]]:
    """Decide the shape from the first readable rows, then turn each row into what becomes of it."""
    rest = iter(rows)
    head: list[TableRow] = []
    samples: list[dict[str, Any]] = []
    while len(samples) < HEAD_ROWS and (row := next(rest, None)) is not None:
        head.append(row)
        if not isinstance(row[2], RowError):
            samples.append(_selected(row[2], spec))
    if samples:
        shape = _shape(samples, table, spec, prefer)
        for _, number, columns in chain(head, rest):
            outcome = columns if isinstance(columns, RowError) else _read(shape, _selected(columns, spec))
            yield number, outcome, columns
    else:
        for _, number, columns in head:
            assert isinstance(columns, RowError)
            yield number, columns, columns


def _origin(columns: "dict[str, Any] | RowError") -> tuple[str, tuple[str, ...]]:
    """Return the source of a curated row, and where it stood there."""
    if isinstance(columns, RowError):
        return "?", ()
    return str(columns.get("source", "?")), tuple(columns.get("lineage") or ())


def _read(shape: Shape, columns: dict[str, Any]) -> Outcome:
    try:
        return in_its_form(shape.read(columns), columns)
    except (RowError, NothingToLearn) as verdict:
        return verdict


def _selected(columns: dict[str, Any], spec: SourceSpec) -> dict[str, Any]:
    if spec.columns is None:
        return columns
    return {name: columns[name] for name in spec.columns if name in columns}


def _shape(samples: list[dict[str, Any]], table: Table, spec: SourceSpec, prefer: type[Example] | None) -> Shape:
    seen = list(dict.fromkeys(name for columns in samples for name in columns))
    for name in spec.columns or ():
        if name not in seen:
            raise FileError(
                table.place,
                f"no column {name!r}, which `columns` asks for",
                f"of the columns asked for, the first rows have {_listed(seen)}",
                f"correct `columns`{did_you_mean(name, seen)}",
            )
    if spec.text_column != "text" and spec.text_column not in seen:
        raise FileError(
            table.place,
            f"no column {spec.text_column!r}, which `text_column` asks for",
            f"the first rows have {_listed(seen)}",
            f"correct `text_column`{did_you_mean(spec.text_column, seen)}",
        )
    shape = shape_of(samples, spec.text_column, prefer)
    if shape is None:
        known = "; ".join(", ".join(shape.needs) for shape in shapes())
        raise FileError(
            table.place,
            f"the columns {_listed(seen)} fit no shape that poise knows",
            "the names of the columns say what is prompt, answer or plain text",
            f"rename the columns to one of these shapes: {known}. Further columns do no harm. "
            "For plain text, text_column may name the column",
        )
    return shape


def _listed(names: Sequence[str], at_most: int = 20) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(repr(name[:60]) for name in names[:at_most]) or "none") + more


def _raise_problems(spec: SourceSpec, file_problems: list[Problem], row_problems: list[Problem]) -> None:
    problems = file_problems + row_problems
    if not problems:
        return
    count = f"{len(problems):,} problem" + ("s" if len(problems) > 1 else "")
    hint = "\n`on_bad_row: drop` leaves such rows out and counts them" if row_problems and not file_problems else ""
    raise DataError(_printable(f"{spec.name}: {count}\n{list_problems(problems)}{hint}"))


def _printable(text: str) -> str:
    """Escape what a data file could smuggle onto a terminal, and lone surrogates, which cannot be written at all."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )
