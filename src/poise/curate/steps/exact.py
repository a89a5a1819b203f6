"""Exact duplicates: of rows that ask the same, the one of the most trusted source is kept.

    key    aaaa  bbbb  aaaa  cccc  bbbb          16 bytes, computed when a row is loaded
    rank     2     1     1     5     3           the smallest of each key is kept
    lost     x     .     .     .     x

Rows for different training are not duplicates of one another: a conversation and a preference pair with one question
are both kept, with one `question` to join them by.
"""

import json
import uuid
from typing import Literal

import numpy as np
import pyarrow as pa

from poise.curate.arrow import compute as pc
from poise.curate.rows import DROPS, Decisions, Rows, example_of
from poise.curate.step import Step
from poise.curate.texts import user_turns
from poise.examples import Document, Example


class Exact(Step):
    """Which rows are equal."""

    key: Literal["questions", "row", "bagel"] = "questions"
    """`questions`: system prompt and all user turns, without case and spacing. `row`: the answers too, to the letter.
    `bagel`: uuid5 of the first user turn to the letter, as jondurbin/bagel's `as_conversation`."""

    def decide(self, rows: Rows) -> Decisions:
        """Keep the best rank of each key and task."""
        lost, kept = losers(self._keyed(rows))
        told = pc.binary_join_element_wise(f"same {self.key} as", kept, " ")
        reason = pa.repeat(pa.scalar("copy"), len(lost))
        return Decisions(pa.table([lost, reason, told, kept], schema=DROPS).sort_by("id"))

    def _keyed(self, rows: Rows) -> pa.Table:
        """Return (id, rank, key)."""
        if self.key == "questions":
            return rows.stored("rank", "key")
        function = _bagel_keys if self.key == "bagel" else _row_keys
        frame = rows.frame("task", "kind", "rank", "content")
        frame = rows.engine.mapped(frame, function, ("task", "kind", "content"), "key")
        return rows.engine.collect(frame.select("id", "rank", "key"))


def losers(keyed: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Return the ids of the rows that have not the smallest rank of their key, and beside each who has."""
    keyed = keyed.set_column(0, "id", keyed["id"].cast(pa.string()))
    codes = keyed["key"].combine_chunks().dictionary_encode().indices.to_numpy()
    shared = np.flatnonzero(np.bincount(codes)[codes] > 1) if len(codes) else codes
    rivals = keyed.select(["id", "rank"]).take(pa.array(shared)).append_column("code", pa.array(codes[shared]))
    rivals = rivals.sort_by([("code", "ascending"), ("rank", "ascending")]).combine_chunks()
    code, ids = rivals["code"].to_numpy(), rivals["id"].combine_chunks()
    follows = np.append(False, code[1:] == code[:-1])[: len(code)]
    best = np.maximum.accumulate(np.where(follows, 0, np.arange(len(code))))
    return ids.take(pa.array(np.flatnonzero(follows))), ids.take(pa.array(best[follows]))


def _row_keys(tasks: list[str], kinds: list[str], contents: list[str]) -> list[str | None]:
    return [f"{task} {content}" for task, content in zip(tasks, contents, strict=True)]


def _bagel_keys(tasks: list[str], kinds: list[str], contents: list[str]) -> list[str | None]:
    examples = map(example_of, kinds, contents)
    return [f"{task} {bagel_key(example)}" for task, example in zip(tasks, examples, strict=True)]


def bagel_key(example: Example) -> str:
    """Return bagel's id: uuid5 of the first user turn, of a document's text, to the letter."""
    text = example.text if isinstance(example, Document) else next(iter(user_turns(example)), "")
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text or json.dumps([example.id])))
