"""Which files poise reads, each by its extension."""

from collections.abc import Callable, Iterator
from pathlib import Path

from poise.sources.arrow_rows import read_parquet
from poise.sources.csv_rows import read_csv, read_tsv
from poise.sources.json_rows import read_json, read_jsonl
from poise.sources.opening import Read

READERS: dict[str, Callable[[Path], Iterator[Read]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
}
KNOWN = f"{', '.join(READERS)}, all but parquet also with .gz"


def read_file(path: Path) -> Iterator[Read]:
    """Read the rows of a file whose extension is known."""
    return READERS[str(extension(path))](path)


def extension(path: Path) -> str | None:
    """Return `.jsonl` for `a.jsonl` and `a.jsonl.gz`; None for what poise does not read."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        suffix = Path(path.stem).suffix.lower()
        return suffix if suffix in READERS and suffix != ".parquet" else None
    return suffix if suffix in READERS else None


def stem(path: Path) -> str:
    """Return `a` for `a.jsonl` and `a.jsonl.gz`."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
