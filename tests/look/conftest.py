"""Write folders as `poise curate` does, as small as a test needs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from poise.curate.rows import ROWS
from poise.curate.write import ABOUT, CONTENT, LEDGER_COLUMNS

Turns = list[dict[str, str]]
Rows = dict[tuple[str, str], list[dict[str, Any]]]


def said(*texts: str, system: str | None = None) -> Turns:
    """User and assistant in turn."""
    listed = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *listed] if system else listed


@pytest.fixture
def turns() -> Callable[..., Turns]:
    """Make turns of user and assistant, after a system prompt if there is one."""
    return said


@pytest.fixture
def chat() -> Callable[..., dict[str, Any]]:
    """Make one conversation; its source is what stands before the colon in its id."""

    def make(row_id: str, *texts: str, system: str | None = None, **measured: int) -> dict[str, Any]:
        return {"id": row_id, "source": row_id.partition(":")[0], "messages": said(*texts, system=system), **measured}

    return make


@pytest.fixture
def pair() -> Callable[..., dict[str, Any]]:
    """Make one preference pair."""

    def make(row_id: str, prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
        answers = {name: said("", text)[1:] for name, text in (("chosen", chosen), ("rejected", rejected))}
        return {"id": row_id, "source": row_id.partition(":")[0], "prompt": said(prompt), **answers}

    return make


@pytest.fixture
def curated(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder as `poise curate` does: rows by kind and split, and the ledger's rows."""

    def write(
        rows: Rows,
        ledger: list[dict[str, str]] | None = None,
        steps: list[Any] | None = None,
        name: str = "data set",
        files: int = 1,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for (kind, split), listed in rows.items():
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
            measured = [
                (column, pa.int64()) for column in ("prompt_tokens", "answer_tokens", "tokens") if column in listed[0]
            ]
            schema = pa.schema([*CONTENT[kind], *ABOUT, *measured])
            for number in range(files):
                table = pa.Table.from_pylist(listed[number::files], schema=schema)
                pq.write_table(table, folder / "data" / kind / f"{split}-{number:05d}.parquet")
        blank = dict.fromkeys(LEDGER_COLUMNS.names, "")
        drops = pa.Table.from_pylist([blank | drop for drop in ledger or []], schema=LEDGER_COLUMNS)
        pq.write_table(drops, folder / "ledger.parquet")
        used = sum(map(len, rows.values()))
        counts = {"in": used + len(drops), "made": used + len(drops), "used": used, "dropped": {}, "by_source": {}}
        (folder / "ledger.json").write_text(json.dumps(counts))
        stages = [{"name": stage, "key": "0"} for stage in ("load-a", "exact", "tokens")]
        (folder / "curation.json").write_text(json.dumps({"recipe": {"steps": steps or []}, "stages": stages}))
        return folder

    return write


@pytest.fixture
def store() -> Callable[[Path, dict[str, dict[str, Any]]], None]:
    """Write the rows that the load stage of a curated folder keeps: id to content."""
    return _store


def _store(folder: Path, stored: dict[str, dict[str, Any]]) -> None:
    path = folder / ".stages" / "load-a-0"
    path.mkdir(parents=True)
    blank = dict.fromkeys(ROWS.names) | {"kind": "conversation"}
    rows = [blank | {"id": row_id, "content": json.dumps(content)} for row_id, content in stored.items()]
    pq.write_table(pa.Table.from_pylist(rows, schema=ROWS), path / "rows-00000.parquet")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Words and <user>, <assistant>, <system>, <end> are one token each."""
    words = ("?", "<user>", "<assistant>", "<system>", "<end>", "<pad>", "one", "two", "three")
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(list(words[1:6]))
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    template = (
        "{% for message in messages %}<{{ message.role }}>{{ message.content }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    config = {"eos_token": "<end>", "pad_token": "<pad>", "unk_token": "?", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
