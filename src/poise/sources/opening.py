"""Open a data file, and refuse at once what cannot hold rows."""

import gzip
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from poise.sources.refusal import FileError, RowError

Read = tuple[int, dict[str, Any] | RowError]
"""A row's number, from 1, with its columns or what is wrong with it."""

HEAD_BYTES = 4096
REBUILD = "download or write the file again"
MAGIC = {b"\x1f\x8b": "gzip data (.gz)", b"PAR1": "a parquet table (.parquet)", b"PK\x03\x04": "a zip archive"}


@contextmanager
def opened(path: Path) -> Generator[BinaryIO, None, None]:
    """Open a file, through gzip where its name says so; what the disk or gzip says becomes a FileError."""
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield cast("BinaryIO", file)
    except EOFError:
        raise FileError(path, "is cut off in the middle of its gzip stream", "rows are missing", REBUILD) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FileError(
            path,
            f"is not gzip, or damaged: {error}",
            "its name ends in .gz",
            f"{REBUILD}, or rename it if it is not compressed",
        ) from None
    except OSError as error:
        raise FileError(
            path, f"cannot be read: {error.strerror or error}", "its rows are needed", "check the file and its rights"
        ) from None


def check_text(path: Path) -> None:
    """Refuse what is plainly not UTF-8 text before a row is blamed for it."""
    with opened(path) as file:
        head = file.read(HEAD_BYTES)
    check_content(path, head)
    binary = next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)
    if binary:
        raise FileError(path, f"holds {binary}", "its name says text", "give it the extension of what it holds")
    if not head.strip(b"\0"):
        raise FileError(path, "holds only NUL bytes", "a disk or a download wrote its length but no content", REBUILD)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:64]:
        raise FileError(path, "is UTF-16 or UTF-32, not UTF-8", "text is read as UTF-8 only", "convert it to UTF-8")


def check_content(path: Path, head: bytes) -> None:
    """Refuse an empty file and what servers and git leave in the place of one."""
    if not head:
        raise FileError(path, "is empty", "there is nothing to train on", REBUILD)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise FileError(
            path,
            "is an HTML page, not data",
            "a server answered the download with a web page",
            "download the raw file; the page may say why it was refused",
        )
    if start.startswith(b"version https://git-lfs"):
        raise FileError(
            path, "is a Git LFS pointer, not the data", "git left the file on the server", "run git lfs pull"
        )
