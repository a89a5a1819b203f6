"""The card's charts stand beside it, say what the ledger says, and need nothing but themselves."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from poise.curate.charts import bars, lengths


def test_the_card_shows_charts_that_are_there_and_load_nothing(build: Callable[..., Any], chat, pair) -> None:
    built = build({"a": [chat("Why?"), chat("Why?", "No."), chat("How [so]?")], "b": [pair("When?")]})
    card = (built.out / "README.md").read_text()
    shown = re.findall(r"^!\[(.*)\]\((.*)\)$", card, re.MULTILINE)
    assert [file for _, file in shown] == ["charts/sources.svg", "charts/lengths.svg"]
    assert shown[0][0].endswith("a: 2 of 3 kept; b: 1 of 1 kept.")
    for _, file in shown:
        drawing = (built.out / file).read_text()
        assert ElementTree.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
        assert not re.search(r"href=|url\((?!#)|<script|<image", drawing)


def test_a_source_has_a_bar_of_what_is_kept_and_of_each_stage_and_none_of_what_was_never_made() -> None:
    found = {
        "used": 5,
        "dropped": {"load: empty text": 9, "exact: copy": 2, "quality: refusal": 1, "quality: damage": 3},
    }
    assert [(bar["what"], bar["rows"]) for bar in bars("a", found, ["kept", "quality", "exact", "sample"])] == [
        ("kept", 5), ("quality", 4), ("exact", 2),
    ]  # fmt: skip


def test_lengths_are_tokens_where_they_were_counted_else_words_of_every_text_of_a_row(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "one two"}
    rows = [
        {"prompt": [turn, turn], "chosen": [turn], "rejected": [{"role": "assistant", "content": "x"}]},
        {"prompt": [], "chosen": [turn], "rejected": []},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    answers = [[[turn], [turn, turn]], []]
    pq.write_table(pa.table({"prompt": [[turn], [turn]], "answers": answers}), tmp_path / "ranked.parquet")
    pq.write_table(pa.table({"text": ["a b c"], "tokens": [17]}), tmp_path / "documents.parquet")
    found = {name: lengths([tmp_path / f"{name}.parquet"]) for name in ("pairs", "ranked", "documents")}
    told = {name: (unit, np.asarray(counts).tolist()) for name, (unit, counts) in found.items()}
    assert told == {"pairs": ("words", [7, 2]), "ranked": ("words", [8, 2]), "documents": ("tokens", [17])}
