"""Exact duplicates: of rows that ask the same, the one of the most trusted source is kept.

Rows for different training are not duplicates of one another: a conversation and a preference pair with one question
are both kept, with one `question` to join them by.
"""

import json
import uuid
from typing import Literal

from poise.curate.rows import Decisions, Rows, drops_of, example_of
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
        engine = rows.engine
        if self.key == "questions":
            keyed = rows.frame("task", "rank", "question").with_column_renamed("question", "key")
        else:
            function = _bagel_keys if self.key == "bagel" else _row_keys
            keyed = engine.mapped(
                rows.frame("task", "kind", "rank", "content"), function, ("kind", "content"), "key", rows.count
            )
        keyed = engine.joined_text(keyed, ("task", "key"), "key").select("id", "rank", "key")
        lost = engine.collect(engine.losers(keyed, "key", "rank").select("id", "best"))
        kept = [best.split(" ", 2)[2] for best in lost["best"].to_pylist()]
        return Decisions(
            drops_of(
                (row_id, "copy", f"same {self.key} as {other}", other)
                for row_id, other in zip(lost["id"].to_pylist(), kept, strict=True)
            )
        )


def _row_keys(kinds: list[str], contents: list[str]) -> list[str | None]:
    return list(contents)


def _bagel_keys(kinds: list[str], contents: list[str]) -> list[str | None]:
    return [bagel_key(example_of(kind, content)) for kind, content in zip(kinds, contents, strict=True)]


def bagel_key(example: Example) -> str:
    """Return bagel's id: uuid5 of the first user turn, of a document's text, to the letter."""
    text = example.text if isinstance(example, Document) else next(iter(user_turns(example)), "")
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text or json.dumps([example.id])))
