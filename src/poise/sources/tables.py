"""From the name of a source to its tables: a local path first, the Hub second."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from poise.errors import DataError
from poise.sources.files import KNOWN, extension, read_file, stem
from poise.sources.folders import files_of, neighbours, no_split, split_of
from poise.sources.hub import disk_splits, hub_splits, is_saved, read_dataset
from poise.sources.opening import Read
from poise.sources.spec import Slice, SourceSpec, parse_split

CURATION = "curation.json"
"""The manifest of a folder that `poise curate` wrote."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Table:
    """Rows that share their columns: one file, or one split of a dataset."""

    name: str
    """Short, for the lineage of an Example."""
    place: str
    """As the user gave it, for errors."""
    read: Callable[[], Iterator[Read]]
    curated: bool = False
    """Whether `poise curate` wrote it: its rows say themselves which source they came from."""


def source_name(spec: SourceSpec) -> str:
    """Return the file's or folder's name, or the Hub id."""
    path = _local(spec.name)
    return path.resolve().name if path else spec.name


def tables_of(spec: SourceSpec, kind: str | None = None) -> tuple[list[Table], Slice]:
    """Find the tables of a source, and the slice that is still to be cut from their rows.

    Of a folder that `poise curate` wrote, which has a table for each kind of Example, those of `kind` where it has any.
    """
    path = _local(spec.name)
    if path is None:
        if _is_hub_id(spec.name):
            return _datasets_tables(spec.name, spec.name, hub_splits(spec)), Slice()
        raise _not_found(spec.name)
    _refuse_hub_options(spec)
    split, wanted = (None, Slice()) if spec.split is None else parse_split(spec.split)
    if path.is_dir() and is_saved(path):
        return _datasets_tables(path.resolve().name, spec.name, disk_splits(path, split)), wanted
    if (path / CURATION).is_file():
        return _curated_tables(path, split, kind), wanted
    if path.is_dir():
        folder = path.resolve().name
        files = files_of(path, split)
        return [_file_table(file, f"{folder}/{file.relative_to(path).as_posix()}") for file in files], wanted
    return [_one_file(path, split)], wanted


def _curated_tables(path: Path, split: str | None, kind: str | None) -> list[Table]:
    folder, data = path.resolve().name, path / "data"
    files = files_of(data, split)
    tables = [_file_table(file, f"{folder}/{file.relative_to(data).as_posix()}", curated=True) for file in files]
    return [table for table in tables if f"/{kind}/" in table.name] or tables


def _one_file(path: Path, split: str | None) -> Table:
    if extension(path) is None:
        raise DataError(
            f"{path}: {path.suffix or 'no extension'!r} is not a file type poise reads\n"
            f"    why:    the extension says how the rows are written\n"
            f"    to do:  convert or rename it to one of {KNOWN}"
        )
    there = sorted({"train", split_of(Path(path.name)) or "train"})
    if split is not None and split not in (*there, stem(path)):
        raise no_split(path, split, there)
    return _file_table(path, path.name)


def _file_table(path: Path, name: str, *, curated: bool = False) -> Table:
    return Table(name, str(path), lambda: read_file(path), curated)


def _datasets_tables(name: str, place: str, splits: dict[str, object]) -> list[Table]:
    ends = {split: f"/{split}" if split else "" for split in splits}
    return [Table(name + ends[split], place + ends[split], _reader(place, splits[split])) for split in splits]


def _reader(place: str, dataset: object) -> Callable[[], Iterator[Read]]:
    return lambda: read_dataset(place, dataset)


def _local(name: str) -> Path | None:
    path = Path(name).expanduser()
    try:
        return path if path.exists() else None
    except OSError:
        return None


def _is_hub_id(name: str) -> bool:
    return HUB_ID.fullmatch(name) is not None and extension(Path(name)) is None


def _refuse_hub_options(spec: SourceSpec) -> None:
    given = {"config": spec.config if spec.config != "default" else None, "revision": spec.revision}
    for option, value in given.items():
        if value is not None:
            raise DataError(
                f"{spec.name}: {option} {value!r} was asked for, but this is a local path\n"
                f"    why:    only a Hub dataset has a {option}; here it would be ignored\n"
                f"    to do:  leave {option} out, or name the Hub dataset"
            )


def _not_found(name: str) -> DataError:
    return DataError(
        f"{name}: no such file or folder\n"
        f"    why:    {neighbours(name)}\n"
        f"    to do:  correct the path; a Hub dataset is named owner/name"
    )
