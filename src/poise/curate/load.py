"""Load one source: raw rows, through its catalog file or the shape of its columns, into stored rows."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from poise import progress
from poise.curate.entry import SourceEntry
from poise.curate.rows import ROWS, drops_of, row_of
from poise.errors import DataError, Problem, list_problems
from poise.run import file_sha256
from poise.sources import SourceSpec, load
from poise.sources.dataset import About, Bad, Left, Outcome, read_rows
from poise.sources.files import read_file
from poise.sources.folders import data_files
from poise.sources.hub import commit_of, download
from poise.sources.refusal import FileError, RowError
from poise.sources.tables import Table, tables_of

ROWS_PER_FILE = 20_000
PROBLEMS_TOLD = 20
ROWS_BETWEEN_LINES = 100_000

RawRow = tuple[str, "dict[str, Any] | RowError"]


@dataclass
class Tally:
    """What became of a source's rows: in = used + dropped."""

    rows_in: int = 0
    made: int = 0
    """Examples, of which one may need several rows and one row may give several."""
    used: int = 0
    drops: list[tuple[str, str, str, str]] = field(default_factory=list[tuple[str, str, str, str]])
    problems: list[Problem] = field(default_factory=list[Problem])


def fingerprint(entry: SourceEntry) -> dict[str, Any]:
    """Return what decides a source's rows beside its recipe keys: hashes of local files, the commit on the Hub."""
    found = {"path": _fingerprint(entry, entry.path)}
    if entry.against_about is not None:
        found["against"] = _fingerprint(entry, entry.against, entry.against_about)
    return found


def load_source(entry: SourceEntry, order: int, seed: int, folder: Path) -> dict[str, Any]:
    """Write a source's rows and drops into `folder`; returns the counts."""
    tally = Tally()
    strata: dict[str, str] = {}
    rows = _stored(_outcomes(entry, seed, tally, strata), entry, order, tally, strata)
    files = 0
    while batch := list(islice(rows, ROWS_PER_FILE)):
        table = pa.Table.from_pylist(batch, schema=ROWS)
        pq.write_table(table, folder / f"rows-{files:05d}.parquet", compression="zstd")
        files += 1
    if tally.problems:
        raise _bad_rows(entry, tally.problems)
    pq.write_table(drops_of(tally.drops), folder / "drops.parquet", compression="zstd")
    if tally.rows_in != tally.used + len(tally.drops):
        raise DataError(
            f"source {entry.label}: {tally.rows_in:,} rows in, {tally.used:,} used, {len(tally.drops):,} dropped\n"
            "    why:    rows were lost or counted twice; this is a defect of the catalog file"
        )
    reasons = Counter(reason for _, reason, _, _ in tally.drops)
    counts = {"in": tally.rows_in, "used": tally.used, "made": tally.made, "dropped": dict(sorted(reasons.items()))}
    return {"source": entry.label, **counts}


def _outcomes(entry: SourceEntry, seed: int, tally: Tally, strata: dict[str, str]) -> Iterator[Outcome]:
    about = entry.about
    if about is None:
        yield from _recognised(entry, tally)
        return
    others = None
    if entry.against_about is not None:
        against = SourceEntry(source=entry.source, path=entry.against, name=entry.label)
        placed = ((f"against/{place}", row) for place, row in _raw_rows(against, entry.against_about, entry.against))
        others = _counted(placed, against, tally, {})
    rows = _counted(_raw_rows(entry, about, entry.path), entry, tally, strata)
    yield from read_rows(entry.catalogued, rows, seed=seed, options=entry.options, others=others)


def _recognised(entry: SourceEntry, tally: Tally) -> Iterator[Outcome]:
    """Load by the shape of the columns."""
    spec = SourceSpec(str(entry.path), entry.config, entry.split, entry.revision, entry.columns)
    loaded = load(spec, on_bad_row=entry.on_bad_row)
    tally.rows_in = loaded.rows_in.total()
    yield from loaded.examples
    for drop in loaded.drops:
        yield Left(drop.place, drop.reason, drop.evidence)


def _raw_rows(entry: SourceEntry, about: About, path: str | None) -> Iterator[RawRow]:
    """Read the dataset's rows as they are stored, from a local copy or the Hub."""
    tables, wanted = _tables(entry, about, path)

    def rows() -> Iterator[RawRow]:
        for table in tables:
            for number, columns in table.read():
                yield f"{table.name}:{number}", columns

    try:
        yield from wanted.cut(rows())
    except FileError as error:
        raise DataError(f"source {entry.label}: {error.problem}") from None


def _tables(entry: SourceEntry, about: About, path: str | None) -> tuple[list[Table], Any]:
    local = Path(path).expanduser() if path else None
    if local is not None and local.exists():
        if about.files and all((local / name).is_file() for name in about.files):
            return [Table(name, str(local / name), _reader(local / name)) for name in about.files], _whole()
        named = entry.split or (about.split if local.is_dir() and _has_split(local, about.split) else None)
        return tables_of(SourceSpec(str(local), split=named))
    hub = path or about.hub
    if about.files:
        files = [(name, download(hub, name, entry.revision)) for name in about.files]
        return [Table(name, f"{hub}/{name}", _reader(file)) for name, file in files], _whole()
    spec = SourceSpec(hub, entry.config or about.config, entry.split or about.split, entry.revision)
    return tables_of(spec)


def _reader(file: Path) -> Any:
    return lambda: read_file(file)


def _whole() -> Any:
    from poise.sources.spec import Slice

    return Slice()


def _has_split(folder: Path, split: str) -> bool:
    from poise.sources.folders import split_of

    return any(split_of(file.relative_to(folder)) == split for file in data_files(folder))


def _counted(rows: Iterator[RawRow], entry: SourceEntry, tally: Tally, strata: dict[str, str]) -> Iterator[RawRow]:
    for place, columns in rows:
        tally.rows_in += 1
        if entry.stratify is not None and not isinstance(columns, RowError):
            strata[place] = _stratum(entry.label, entry.stratify, columns)
        if tally.rows_in % ROWS_BETWEEN_LINES == 0:
            progress.say(f"load {entry.label}: {tally.rows_in:,} rows read")
        yield place, columns


def _stratum(label: str, name: str, columns: Mapping[str, Any]) -> str:
    if name not in columns:
        raise DataError(
            f"source {label}: stratify: {name}, but the rows have {', '.join(columns)}\n"
            "    why:    the shares of a column are kept that is not there\n"
            "    to do:  name one of these columns"
        )
    return str(columns[name])


def _stored(
    outcomes: Iterator[Outcome], entry: SourceEntry, order: int, tally: Tally, strata: dict[str, str]
) -> Iterator[dict[str, Any]]:
    label, confidence = entry.label, entry.trust
    copies: Counter[str] = Counter()
    used: set[str] = set()
    for outcome in outcomes:
        if isinstance(outcome, Left):
            tally.drops.append((f"{label}@{outcome.place}", outcome.reason, outcome.evidence, ""))
        elif isinstance(outcome, Bad):
            _note_bad(outcome, entry, tally)
        else:
            used.update(outcome.lineage if entry.source else outcome.lineage[:1])  # a curated row has a past beside
            tally.made += 1
            tally.used = len(used)
            yield row_of(
                outcome,
                label,
                copies,
                confidence=confidence,
                order=order,
                stratum=strata.get(outcome.place),
                case_matters=entry.case_matters,
            )


def _note_bad(bad: Bad, entry: SourceEntry, tally: Tally) -> None:
    if entry.on_bad_row == "drop":
        tally.drops.append((f"{entry.label}@{bad.place}", bad.error.reason, bad.error.what, ""))
    else:
        tally.problems.append(bad.error.problem(bad.place))
        if len(tally.problems) > PROBLEMS_TOLD:
            raise _bad_rows(entry, tally.problems)


def _bad_rows(entry: SourceEntry, problems: list[Problem]) -> DataError:
    more = "at least " if len(problems) > PROBLEMS_TOLD else ""
    count = f"{more}{len(problems):,} row{'s' if len(problems) > 1 else ''} that do not fit"
    hint = "`on_bad_row: drop` on this source leaves such rows out and counts them"
    return DataError(f"source {entry.label}: {count}\n{list_problems(problems)}\n{hint}")


def _fingerprint(entry: SourceEntry, path: str | None, about: About | None = None) -> Any:
    local = Path(path).expanduser() if path else None
    if local is not None and local.exists():
        files = [local] if local.is_file() else data_files(local)
        return {file.name if local.is_file() else str(file.relative_to(local)): file_sha256(file) for file in files}
    described = about or entry.about
    hub = path or (described.hub if described else None)
    return {"hub": hub, "revision": entry.revision, "commit": commit_of(str(hub), entry.revision)}
