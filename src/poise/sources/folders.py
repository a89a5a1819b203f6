"""Which files of a folder belong to which split, by the names that people and the Hub give them.

    train.jsonl  train-00000-of-00002.parquet  train/part1.jsonl  test_prefs.jsonl.gz  data/valid.csv

Where no name says a split, all files are the split `train`.
"""

import re
from pathlib import Path

from poise.errors import DataError
from poise.names import did_you_mean
from poise.sources.files import KNOWN, extension, stem

METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
SHARD = re.compile(r"-\d{5}-of-\d{5}.*$")
NUMBER = re.compile(r"[-_.]?\d+$")
SPLIT_NAME = re.compile(r"(training|train|testing|test|validation|valid|val|dev|eval)(?:[-_.](\w.*))?", re.IGNORECASE)
SYNONYMS = {"training": "train", "testing": "test", "valid": "validation", "val": "validation", "dev": "validation"}


def files_of(folder: Path, split: str | None) -> list[Path]:
    """Return the data files of a split, sorted by name; of every split for None."""
    files = data_files(folder)
    splits = {path: split_of(path.relative_to(folder)) for path in files}
    if not any(splits.values()):
        splits = dict.fromkeys(files, "train")
    if split is None:
        return files
    wanted = _canonical(split) or split
    exact = [path for path in files if splits[path] == wanted]
    alike = [path for path in files if (splits[path] or "").startswith(f"{wanted}_") and not SHARD.search(stem(path))]
    if not exact and not alike:
        raise no_split(folder, split, sorted({name for name in splits.values() if name}))
    return exact or alike


def data_files(folder: Path) -> list[Path]:
    """Return every file under a folder that poise reads, without hidden ones and the metadata of `datasets`."""
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and extension(path)
        and path.name not in METADATA
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        names = sorted(path.name for path in folder.iterdir())
        raise DataError(
            f"{folder}: no data file in this folder; it holds {_few(names) or 'nothing'}\n"
            f"    why:    a source is made of files that end in {KNOWN}\n"
            f"    to do:  name the folder that holds them, or convert the files"
        )
    return found


def split_of(relative: Path) -> str | None:
    """Return the split that a name or a folder above it says: `train_sft` for `data/train_sft-00000-of-00003`."""
    for part in (stem(relative), *reversed(relative.parts[:-1])):
        split = _canonical(NUMBER.sub("", SHARD.sub("", part)))
        if split:
            return split
    return None


def no_split(place: object, split: str, there: list[str]) -> DataError:
    """Say which splits there are."""
    return DataError(
        f"{place}: no split {split!r}{did_you_mean(split, there)}\n"
        f"    why:    the splits here are {_few(there)}\n"
        f"    to do:  ask for one of them"
    )


def neighbours(name: str) -> str:
    """Say of a path that is not there whether its folder is, and which name in it is near."""
    path = Path(name).expanduser()
    try:
        there = sorted(other.name for other in path.parent.iterdir())
    except OSError:
        return f"there is no folder {path.parent} either"
    return f"the folder {path.parent} is there, but not this name{did_you_mean(path.name, there)}"


def _canonical(name: str) -> str | None:
    match = SPLIT_NAME.fullmatch(name)
    if match is None:
        return None
    split = SYNONYMS.get(match[1].lower(), match[1].lower())
    return f"{split}_{match[2]}" if match[2] else split


def _few(names: list[str], at_most: int = 20) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
