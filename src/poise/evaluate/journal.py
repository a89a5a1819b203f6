"""A journal: answers and judgments by content, one JSON line each, so that a killed evaluation loses and repeats none.

{"key": "5f1c…", "reply": {…}, "time": "2026-01-31T12:00:00Z"}
"""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

from poise.run import now, read_lines


class Journal:
    """An append-only file of keyed entries, safe to write from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        self._entries = {entry["key"]: entry["reply"] for entry in read_lines(path)}

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what was kept under a key."""
        return self._entries.get(key)

    def keep(self, key: str, reply: dict[str, Any]) -> None:
        """Write an entry to the disk before anything is made of it; the first one of a key holds."""
        line = json.dumps({"key": key, "reply": reply, "time": now()}, ensure_ascii=False).encode("utf-8", "replace")
        with self._lock:
            if key in self._entries:
                return
            with self.path.open("ab") as file:
                file.write(line + b"\n")
            self._entries[key] = reply

    def __len__(self) -> int:
        """Count the entries."""
        return len(self._entries)


def content_key(content: Any) -> str:
    """Name a JSON value by its content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _cut_torn_line(path: Path) -> None:
    """Remove the end of a line that a kill cut off, so that the next one does not grow onto it."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("rb+") as file:
            file.truncate(whole)
