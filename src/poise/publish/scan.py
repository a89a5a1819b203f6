"""Look for secrets in what would be sent: every byte of texts, the headers of weights, the values of tables.

Known secrets (of the environment and of the login) are looked for in every byte of every file, tokens by their form
wherever they are so long that nothing else looks like one.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poise.publish.plan import Planned
from poise.secrets import HIDDEN, LOGIN, NAMED, SURE, TOKEN, known_secrets

CHUNK, OVERLAP = 2**24, 4096
VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "added_tokens.json")
"""Files of words, some of which look like short tokens."""
WEIGHTS = (".safetensors", ".gguf", ".model")
BEGINNINGS = (
    *(b"hf_", b"sk-", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"xox"),
    *(b"AKIA", b"ASIA", b"AIza", b"eyJ", b"-----BEGIN "),
)
"""Of tokens: found in a tenth of the time that the whole pattern takes, which is then tried there."""
SURE_BYTES, LOGIN_BYTES = (re.compile(each.pattern.encode(), each.flags & ~re.UNICODE) for each in (SURE, LOGIN))


def secrets_in(file: Planned) -> str | None:
    """Say what secret a file holds, without showing it; None where none was found."""
    known = [secret.encode() for secret in (*known_secrets(), *_login())]
    if file.name.endswith(".parquet") and file.source is not None:
        parts: Iterator[bytes] = _values(file.source)
    else:
        parts = _chunks(file)
    weights = file.name.endswith(WEIGHTS)
    for part in parts:
        if any(secret in part for secret in known):
            return "a secret of this machine's environment or login"
        if found := _token(part):
            return f"what looks like a token ({found[:4].decode('ascii', 'replace')}…)"
        if not weights and LOGIN_BYTES.search(part):
            return "an address with a password in it"
    if not weights and file.name not in VOCABULARIES and not file.name.endswith(".parquet"):
        return _in_text(file)
    return None


def _token(part: bytes) -> bytes | None:
    """Return the first token whose form is sure."""
    for beginning in BEGINNINGS:
        at = part.find(beginning)
        while at >= 0:
            if found := SURE_BYTES.match(part, at):
                return found[0]
            at = part.find(beginning, at + 1)
    return None


def _in_text(file: Planned) -> str | None:
    """Look closer at a text: shorter tokens, and keys that are named for secrets."""
    text = (file.source.read_bytes() if file.source else file.content).decode("utf-8", "replace")
    if found := TOKEN.search(text):
        return f"what looks like a token ({found[0][:4]}…)"
    if file.name.endswith(".json"):
        try:
            return _named(json.loads(text))
        except (ValueError, RecursionError):
            return None
    return None


def _named(value: Any, key: str = "") -> str | None:
    if isinstance(value, dict):
        return next((found for name, part in value.items() if (found := _named(part, str(name)))), None)
    if isinstance(value, list):
        return next((found for part in value if (found := _named(part, key))), None)
    named = isinstance(value, str) and value and value != HIDDEN and NAMED.search(key)
    return f"a value of {key}" if named else None


def _chunks(file: Planned) -> Iterator[bytes]:
    """Yield a file in parts that overlap, so that nothing is cut in two."""
    if file.source is None:
        yield file.content
        return
    with file.source.open("rb") as opened:
        before = b""
        while part := opened.read(CHUNK):
            yield before + part
            before = part[-OVERLAP:]


def _values(path: Path) -> Iterator[bytes]:
    """Yield the texts of a parquet file's columns, which are compressed in it, and its header."""
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(path)
    yield str(opened.schema_arrow).encode()
    yield b"\n".join([*(opened.schema_arrow.metadata or {}).values()])
    for batch in opened.iter_batches():
        for column in batch.columns:
            yield from _texts(column)


def _texts(column: Any) -> Iterator[bytes]:
    """Yield the texts in a column, a line each, whatever it is nested in."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary
    if pa.types.is_struct(column.type):
        for part in column.flatten():
            yield from _texts(part)
    elif pa.types.is_map(column.type):
        yield from _texts(column.keys)
        yield from _texts(column.items)
    elif pa.types.is_nested(column.type):
        yield from _texts(column.flatten())
    elif not pa.types.is_primitive(column.type):
        values = (value for value in column.to_pylist() if value)
        yield b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)


def _login() -> list[str]:
    """Return the token that the Hub's login keeps."""
    from huggingface_hub import get_token

    token = get_token()
    return [token] if token else []
