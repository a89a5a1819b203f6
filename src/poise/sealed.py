"""A sealed folder: written aside, hashed file by file, and renamed, so that what has its name is whole and provably so.

    checkpoints/.staging-<host>-<pid>-<since>   being written; nobody reads it
    checkpoints/checkpoint-8/sealed.json        size and SHA-256 of every file, facts, and a hash of itself
    checkpoints/.trash-checkpoint-4-…           being removed; only files that its seal lists are

A kill, a full disk or a failing one at any moment leaves the folders that had their names as they were.
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from poise.holder import is_alive, myself

One = TypeVar("One")
Found = TypeVar("Found")

SEAL = "sealed.json"
FORMAT = 1
STAGING, TRASH = ".staging-", ".trash-"
HASHED_AT_ONCE = 4
"""Files hashed side by side: hashing lets other threads run, and one core does about 1.5 GB/s."""


def stage(parent: Path) -> Path:
    """Return an empty folder of this process beside the ones that will have names."""
    me = myself()
    staging = parent / f"{STAGING}{me['host']}-{me['pid']}-{me['since']:.2f}"
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    return staging


def seal(staging: Path, final: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Settle everything on disk, list it with `facts`, and give the folder its name, which must be free."""
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    settled = _for_each(_settle, files)
    listed = {path.relative_to(staging).as_posix(): entry for path, entry in zip(files, settled, strict=True)}
    _write_seal(staging / SEAL, {"format": FORMAT, **(facts or {}), "files": listed})
    for folder in sorted((path for path in staging.rglob("*") if path.is_dir()), reverse=True):
        _settle_folder(folder)
    _settle_folder(staging)
    staging.rename(final)
    _settle_folder(final.parent)


def read_seal(folder: Path) -> dict[str, Any]:
    """Return what a seal says; ValueError, naming the seal, where it is missing or damaged."""
    try:
        text = (folder / SEAL).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{SEAL} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{SEAL} cannot be read: {error}") from error
    try:
        said = json.loads(text)
        own, body = said["sha256"], {key: value for key, value in said.items() if key != "sha256"}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{SEAL} is damaged") from None
    if own != _sha256_of(body) or body.get("format") != FORMAT or not all(map(_is_inside, body["files"])):
        raise ValueError(f"{SEAL} is damaged")
    return body


def damage(folder: Path) -> str | None:
    """Say which file of a sealed folder is not as it was written, and how; None where all are."""
    try:
        files = read_seal(folder)["files"]
    except ValueError as error:
        return str(error)
    found = _for_each(lambda name: _damage_of(folder / name, name, files[name]), list(files))
    return next((each for each in found if each), None)


def _for_each(do: Callable[[One], Found], items: Sequence[One]) -> list[Found]:
    """Do it for several at once; one after the other where there is no memory for another thread."""
    try:
        with ThreadPoolExecutor(HASHED_AT_ONCE) as pool:
            return list(pool.map(do, items))
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        return list(map(do, items))


def replace_sealed(staging: Path, final: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Seal a folder in the place of one that may be there."""
    aside = _aside(final) if final.exists() else None
    if aside is not None:
        final.rename(aside)
    try:
        seal(staging, final, facts)
    except BaseException:
        if aside is not None and not final.exists():
            aside.rename(final)
        raise
    if aside is not None:
        _remove_owned(aside)


def discard(folder: Path) -> Path | None:
    """Take a sealed folder's name away, then remove what its seal lists; returns what is left, with foreign files."""
    aside = _aside(folder)
    folder.rename(aside)
    _settle_folder(folder.parent)
    return _remove_owned(aside)


def sweep(parent: Path) -> None:
    """Clear what killed processes left: staging of the dead, and trash that was not wholly removed."""
    for staging in parent.glob(f"{STAGING}*"):
        if not is_alive(_writer(staging.name)):
            shutil.rmtree(staging, ignore_errors=True)
    for trash in parent.glob(f"{TRASH}*"):
        with contextlib.suppress(OSError):
            _remove_owned(trash)


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{TRASH}{folder.name}-{uuid.uuid4().hex[:8]}")


def _remove_owned(trash: Path) -> Path | None:
    """Remove the files that a seal lists, the seal last, and folders that are then empty."""
    try:
        names = list(read_seal(trash)["files"])
    except ValueError:
        with contextlib.suppress(OSError):
            trash.rmdir()
        return trash if trash.exists() else None
    for name in names:
        (trash / name).unlink(missing_ok=True)
    for folder in sorted((path for path in trash.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    (trash / SEAL).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        trash.rmdir()
    return trash if trash.exists() else None


def _writer(name: str) -> dict[str, Any]:
    """Read which process a staging folder belongs to; nobody where its name does not say."""
    try:
        host, pid, since = name.removeprefix(STAGING).rsplit("-", 2)
        return {"host": host, "pid": int(pid), "since": float(since)}
    except ValueError:
        return {}


def _damage_of(path: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    if path.is_symlink() or not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{name} has {path.stat().st_size:,} bytes, not {entry['bytes']:,}"
    if _file_sha256(path) != entry["sha256"]:
        return f"{name} has other content than was written"
    return None


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and name != SEAL and "\\" not in name


def _settle(path: Path) -> dict[str, Any]:
    """Bring a file to disk; returns its entry in the seal."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": _file_sha256(path)}


def _settle_folder(folder: Path) -> None:
    """Bring a folder's names to disk; where folders cannot be opened, as on Windows, they settle by themselves."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _write_seal(path: Path, body: dict[str, Any]) -> None:
    body = json.loads(json.dumps(body, default=str))
    with path.open("w", encoding="utf-8") as file:
        json.dump({"sha256": _sha256_of(body), **body}, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _sha256_of(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
