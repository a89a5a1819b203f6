"""Rows of JSON: an object per line, or an array of objects."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from poise.sources.opening import REBUILD, Read, check_text, opened
from poise.sources.refusal import FileError, RowError

BLANK = " \t\r\n"
BOM = b"\xef\xbb\xbf"


def read_jsonl(path: Path) -> Iterator[Read]:
    """Read an object per line; a row's number is its line."""
    check_text(path)
    _refuse_csv(path)
    parser = _Parser()
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(BOM) if number == 1 else line
            if content.strip():
                yield number, parser.line(content)


def read_json(path: Path) -> Iterator[Read]:
    """Read an array of objects, or an object per line."""
    check_text(path)
    with opened(path) as file:
        text = _decode(path, file.read().removeprefix(BOM))
    start = _skip_blank(text, 0)
    if text.startswith("[", start):
        return _elements(path, text, start)
    _refuse_one_object(path, text, start)
    return read_jsonl(path)


class _Parser:
    """A JSON decoder that notices a key given twice, which json would settle by forgetting the first."""

    def __init__(self) -> None:
        self.repeated: list[str] = []
        self.json = json.JSONDecoder(object_pairs_hook=self._object)

    def line(self, line: bytes) -> dict[str, Any] | RowError:
        """Parse one line."""
        try:
            return self.checked(self.json.decode(line.decode()))
        except UnicodeDecodeError as error:
            what = f"not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start + 1}"
            return RowError("not UTF-8", f":{error.start + 1}", what, "text is read as UTF-8 only", "convert the file")
        except json.JSONDecodeError as error:
            cut = "" if line.endswith(b"\n") else "; the file ends in this line, so it may be cut off"
            return _not_json(f":{error.colno}", f"{error.msg}{cut}")
        except (ValueError, RecursionError) as error:
            return _not_json("", _first_line(error))

    def checked(self, value: object) -> dict[str, Any] | RowError:
        """Return the parsed value if it is an object without repeated keys."""
        repeated, self.repeated = self.repeated, []
        if not isinstance(value, dict):
            kind = "an array" if isinstance(value, list) else "a single value"
            return RowError(
                "not an object",
                "",
                f"{kind} where an object is expected",
                "the names of the columns say what the values mean",
                'write {"column": value, …}, one row at a time',
            )
        if repeated:
            return RowError(
                "duplicate key",
                f" {repeated[0][:60]}",
                f"the key {repeated[0][:60]!r} is given twice in one object",
                "one of the two values would be lost, and readers differ on which",
                "keep one of them",
            )
        return cast("dict[str, Any]", value)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        columns = dict(pairs)
        if len(columns) < len(pairs):
            names = [name for name, _ in pairs]
            self.repeated.append(next(name for name in names if names.count(name) > 1))
        return columns


def _elements(path: Path, text: str, position: int) -> Iterator[Read]:
    """Read the elements of an array, one at a time; after a syntax error nothing further can be told apart."""
    parser, number = _Parser(), 0
    position = _skip_blank(text, position + 1)
    while not (number == 0 and text.startswith("]", position)):
        number += 1
        try:
            value, position = parser.json.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise _broken(path, text, error.pos, f"not JSON in row {number}: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise _broken(path, text, position, f"not JSON in row {number}: {_first_line(error)}") from None
        yield number, parser.checked(value)
        position = _skip_blank(text, position)
        if text.startswith("]", position):
            break
        if not text.startswith(",", position):
            raise _broken(path, text, position, f"neither , nor ] after row {number} of the array")
        position = _skip_blank(text, position + 1)
    after = _skip_blank(text, position + 1)
    if after < len(text):
        raise _broken(path, text, after, "more text after the end of the array")


def _refuse_one_object(path: Path, text: str, start: int) -> None:
    """Refuse a file that is one object over several lines: its rows are somewhere inside, or it is one row."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict) and "\n" in text[start:end] and not text[end:].strip(BLANK):
        keys = ", ".join(map(repr, cast("dict[str, Any]", value)))
        raise FileError(
            path,
            f"is one object with {keys[:200]}, where an array of objects is expected",
            "each row is one object",
            "put the array of rows alone into the file, or wrap a single row in [ ]",
        )


def _refuse_csv(path: Path) -> None:
    with opened(path) as file:
        line = file.readline(100_000).removeprefix(BOM).decode(errors="replace").strip()
    if "," in line and line[0] not in '{["' and all(name.strip(' "').isidentifier() for name in line.split(",")):
        raise FileError(
            path,
            f"holds comma-separated values: it opens with {line[:60]!r}",
            "its name says JSON",
            "rename it to end in .csv",
        )


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = error.start - content.rfind(b"\n", 0, error.start)
        raise FileError(
            f"{path}:{line}:{byte}",
            f"not UTF-8: byte 0x{content[error.start]:02x}",
            "text is read as UTF-8 only",
            "convert the file",
        ) from None


def _broken(path: Path, text: str, position: int, what: str) -> FileError:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    cut = "; the file ends here, so it may be cut off" if position >= len(text.rstrip()) else ""
    why = "the rows after it cannot be told apart"
    return FileError(f"{path}:{line}:{column}", f"{what}{cut}", why, f"correct it there, or {REBUILD}")


def _not_json(where: str, what: str) -> RowError:
    return RowError("not JSON", where, f"not JSON: {what}", "a row is one JSON object on one line", "correct the line")


def _first_line(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]


def _skip_blank(text: str, position: int) -> int:
    while position < len(text) and text[position] in BLANK:
        position += 1
    return position
