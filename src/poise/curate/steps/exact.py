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
from numpy.typing import NDArray

from poise.curate.arrow import compute as pc
from poise.curate.rows import DROPS, ID_IN_RANK, KEY_BYTES, Decisions, Rows, exact_key, example_of
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
        """Return (rank, key)."""
        if self.key == "questions":
            return rows.stored("rank", "key")
        function = _bagel_keys if self.key == "bagel" else _row_keys
        found = rows.mapped(function, ("task", "kind", "content"), "key", "rank")
        keys = pa.py_buffer(bytes.fromhex("".join(found["key"].to_pylist())))
        return pa.table(
            {"rank": found["rank"], "key": pa.Array.from_buffers(pa.binary(KEY_BYTES), len(found), [None, keys])}
        )


def losers(keyed: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Return the ids of the rows that have not the smallest rank of their key, and beside each who has."""
    key = keyed["key"].combine_chunks()
    halves = np.frombuffer(key.buffers()[1], np.uint64, 2 * len(key), KEY_BYTES * key.offset)[::2]
    rivals = pa.table({"rank": keyed["rank"].cast(pa.string()), "key": key}).take(pa.array(_not_alone(halves)))
    rivals = rivals.sort_by([("key", "ascending"), ("rank", "ascending")]).combine_chunks()
    ids = pc.utf8_slice_codeunits(rivals["rank"].combine_chunks(), ID_IN_RANK)
    same = pc.equal(rivals["key"].slice(1), rivals["key"].slice(0, max(0, len(ids) - 1)))
    follows = np.append(False, same.to_numpy())[: len(ids)]
    best = np.maximum.accumulate(np.where(follows, 0, np.arange(len(ids))))
    return ids.take(pa.array(np.flatnonzero(follows))), ids.take(pa.array(best[follows]))


def _not_alone(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the rows whose hash another row has too."""
    order = np.argsort(hashes, kind="stable")
    same = np.append(np.append(False, hashes[order][1:] == hashes[order][:-1])[: len(order)], False)
    return order[same[:-1] | same[1:]]


def _row_keys(tasks: list[str], kinds: list[str], contents: list[str]) -> list[str | None]:
    return [exact_key(task, content).hex() for task, content in zip(tasks, contents, strict=True)]


def _bagel_keys(tasks: list[str], kinds: list[str], contents: list[str]) -> list[str | None]:
    examples = map(example_of, kinds, contents)
    return [exact_key(task, bagel_key(example)).hex() for task, example in zip(tasks, examples, strict=True)]


def bagel_key(example: Example) -> str:
    """Return bagel's id: uuid5 of the first user turn, of a document's text, to the letter."""
    text = example.text if isinstance(example, Document) else next(iter(user_turns(example)), "")
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text or json.dumps([example.id])))
