"""Write small raw files and build datasets from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from poise.curate.curation import Curation
from poise.curate.pipeline import curate


@pytest.fixture
def chat() -> Callable[..., dict[str, Any]]:
    """Make one conversation as a row."""

    def make(question: str, answer: str = "Yes.", system: str | None = None) -> dict[str, Any]:
        before = [{"role": "system", "content": system}] if system else []
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return {"messages": [*before, *turns]}

    return make


@pytest.fixture
def pair() -> Callable[..., dict[str, Any]]:
    """Make one preference pair as a row."""

    def make(question: str, chosen: str = "Good.", rejected: str = "Bad.") -> dict[str, Any]:
        return {"prompt": question, "chosen": chosen, "rejected": rejected}

    return make


class Built:
    """A built dataset, to look into."""

    def __init__(self, out: Path, counts: dict[str, Any]) -> None:
        self.out, self.counts = out, counts

    def rows(self, kind: str = "conversation", split: str = "train") -> list[dict[str, Any]]:
        files = sorted((self.out / "data" / kind).glob(f"{split}-*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def ids(self) -> set[str]:
        return {
            row_id for file in self.out.glob("data/*/*.parquet") for row_id in pq.read_table(file)["id"].to_pylist()
        }

    def questions(self, kind: str = "conversation", split: str = "train") -> list[str]:
        return [row["messages"][-2]["content"] for row in self.rows(kind, split)]

    def ledger(self) -> list[dict[str, Any]]:
        return pq.read_table(self.out / "ledger.parquet").to_pylist()

    def files(self) -> dict[str, bytes]:
        """Every file but the manifest, which holds times."""
        kept = [path for path in self.out.rglob("*") if path.is_file() and ".stages" not in path.parts]
        return {
            path.relative_to(self.out).as_posix(): path.read_bytes() for path in kept if path.name != "curation.json"
        }


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Built]:
    """Write rows as `NAME.jsonl` for each source, and build them; other arguments are recipe keys."""

    def call(rows: dict[str, list[dict[str, Any]]], out: str = "out", **keys: Any) -> Built:
        entries = []
        settings = keys.pop("each", {})
        for name, listed in rows.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in listed))
            entries.append({"path": str(path), "name": name, **settings.get(name, {})})
        curation = Curation(out=str(tmp_path / out), sources=entries, **keys)
        return Built(tmp_path / out, curate(curation))

    return call
