"""The whole of `poise look`, and where it cannot look."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poise.cli import main
from poise.errors import DataError, ModelError, RunError
from poise.look.look import look


def test_a_folder_that_cannot_be_looked_at_is_an_error_that_helps(curated, chat, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        look(tmp_path / "nothing")
    with pytest.raises(RunError, match="there are no rows in"):
        look(curated({}))
    folder = curated({("conversation", "train"): [chat("a:1", "q", "r")]}, name="damaged")
    with pytest.raises(ModelError, match=r"there is no tokenizer\.json"):
        look(folder, tokenizer=str(tmp_path))
    file = folder / "data" / "conversation" / "train-00000.parquet"
    pq.write_table(pa.table({"id": ["a:1"]}), file)
    with pytest.raises(RunError, match="not as `poise curate` writes it"):
        look(folder)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=r"train-00000.parquet: not as `poise curate` writes it"):
        look(folder)


def test_the_command_prints_text_or_one_json_object(curated, chat, tmp_path: Path, monkeypatch, capsys) -> None:
    folder = curated({("conversation", "train"): [chat("a:1", "q", "r")]})
    monkeypatch.setattr(sys, "argv", ["poise", "look", str(folder)])
    main()
    assert capsys.readouterr().out.startswith("data set: 1 row ·")
    monkeypatch.setattr(sys, "argv", ["poise", "look", str(folder), "--out", str(tmp_path / "page.html"), "--json"])
    main()
    assert json.loads(capsys.readouterr().out)["page"] == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").is_file()
