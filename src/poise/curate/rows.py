"""Rows of a curation: what is stored of each once it is loaded, and what stages decide about them.

Rows are written once, when a source is loaded. Every later stage writes only its decisions, so that a row of two
kilobytes is not copied ten times, and a row's history is what the stages say about its id.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from poise.curate.arrow import compute as pc
from poise.curate.engine import Engine, Frame
from poise.curate.reason import Reason
from poise.curate.texts import normalised, opening, system_turns, user_turns
from poise.examples import Document, Example, LabeledConversation, fields_of, from_json

ROWS = pa.schema(
    [
        ("id", pa.string()),  # source:content[-copy]; unique
        ("source", pa.string()),
        ("kind", pa.string()),
        ("task", pa.string()),  # what it is trained for: rows for different tasks are no duplicates of one another
        ("place", pa.string()),
        ("lineage", pa.list_(pa.string())),  # every row of the source it was made from
        ("rank", pa.string()),  # the smallest of several equal rows is kept: confidence, order of sources, id
        ("question", pa.string()),  # hash of what is asked; the same in every form of one question
        ("opening", pa.string()),  # hash of what is asked before the first answer: rows of one prompt have the same
        ("stratum", pa.string()),
        ("content", pa.string()),  # the Example as JSON, without source and lineage
    ]
)
DROPS = pa.schema([("id", pa.string()), ("reason", pa.string()), ("evidence", pa.string()), ("other", pa.string())])
"""Decisions against rows; `other` is the row that was kept instead, or empty."""
EVIDENCE_CHARACTERS = 200


@dataclass(frozen=True)
class Decisions:
    """What a stage found."""

    drops: pa.Table
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """For the report: thresholds, recall, sizes."""
    columns: pa.Table | None = None
    """id and what the stage measured of it, for later stages and the output."""


@dataclass(frozen=True)
class Rows:
    """The rows that are left, as a stage sees them."""

    engine: Engine
    files: Sequence[Path]
    dropped: pa.Table
    """(id,) of everything that earlier stages dropped."""
    count: int
    """How many are left."""
    columns: tuple[pa.Table, ...] = ()
    """What earlier stages measured."""

    def frame(self, *names: str) -> Frame:
        """Return columns of the rows that are left; those that earlier stages measured are joined on."""
        stored = [name for name in dict.fromkeys(("id", *names)) if name in ROWS.names]
        found = self.engine.without(self.engine.scan(self.files).select(*stored), self.dropped)
        for table in self.columns:
            wanted = [name for name in names if name in table.column_names and name not in ROWS.names]
            if wanted:
                found = found.join(self.engine.of(table.select(["id", *wanted])), on="id", how="left")
        return found

    def table(self, *names: str) -> pa.Table:
        """Collect columns, sorted by id."""
        return self.engine.collect(self.frame(*names)).sort_by("id").combine_chunks()

    def judged(self, judge: Callable[[Example], Reason | None]) -> pa.Table:
        """Return the drops of a step that judges each row for itself."""
        found = self.engine.mapped(
            self.frame("kind", "content"), _Judge(judge), ("kind", "content"), "verdict", self.count
        )
        told = self.engine.collect(self.engine.present(found, "verdict").select("id", "verdict"))
        return drops_of(
            (row_id, *json.loads(verdict), "")
            for row_id, verdict in zip(told["id"].to_pylist(), told["verdict"].to_pylist(), strict=True)
        )

    def measured(self, measure: Callable[[list[str], list[str]], list[str | None]], name: str) -> pa.Table:
        """Return (id, name) where a picklable function gives text for whole columns of kind and content."""
        found = self.engine.mapped(self.frame("kind", "content"), measure, ("kind", "content"), name, self.count)
        return self.engine.collect(found.select("id", name)).sort_by("id").combine_chunks()


@dataclass(frozen=True)
class _Judge:
    judge: Callable[[Example], Reason | None]

    def __call__(self, kinds: list[str], contents: list[str]) -> list[str | None]:
        return [self._verdict(kind, content) for kind, content in zip(kinds, contents, strict=True)]

    def _verdict(self, kind: str, content: str) -> str | None:
        reason = self.judge(example_of(kind, content))
        return None if reason is None else json.dumps([reason.phrase, reason.evidence[:EVIDENCE_CHARACTERS]])


def drops_of(decisions: Iterable[tuple[str, str, str, str]]) -> pa.Table:
    """Make a table of decisions, sorted by id."""
    listed = sorted(decisions)
    columns = list(zip(*listed, strict=True)) or [()] * 4
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=DROPS)


def row_of(
    example: Example, *, copy: int, confidence: int, order: int, stratum: str | None, case_matters: bool
) -> dict[str, Any]:
    """Return what is stored of an Example; `copy` numbers equal ones of a source from 0."""
    content = content_of(example)
    row_id = f"{example.source}:{digest(example.kind, content)}" + (f"-{copy}" if copy else "")
    return {
        "id": row_id,
        "source": example.source,
        "kind": example.kind,
        "task": task_of(example),
        "place": example.place,
        "lineage": list(example.lineage),
        "rank": f"{99 - confidence:02d} {order:04d} {row_id}",
        "question": question_key(example, case_matters=case_matters) or row_id,
        "opening": opening_key(example) or row_id,
        "stratum": stratum,
        "content": content,
    }


def task_of(example: Example) -> str:
    """Return the kind, for labelled conversations with whether the answer is wanted."""
    wanted = isinstance(example, LabeledConversation) and not example.desirable
    return f"{example.kind}, undesirable" if wanted else example.kind


def content_of(example: Example) -> str:
    """Write an Example's content in one way only."""
    content = fields_of(replace(example, source="", lineage=()))
    del content["source"], content["lineage"]
    return json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def digest(kind: str, content: str) -> str:
    """Return `Example.id` of what `content_of` wrote."""
    return hashlib.sha256(f'["{kind}",{content}]'.encode()).hexdigest()[:16]


def example_of(kind: str, content: str) -> Example:
    """Rebuild an Example, without source and lineage."""
    return from_json({"kind": kind, "lineage": (), **json.loads(content)})


def question_key(example: Example, *, case_matters: bool = False) -> str | None:
    """Hash the system prompt and all user turns, a document's text; None where there is no letter or digit in them."""
    turns = [example.text] if isinstance(example, Document) else [*system_turns(example), *user_turns(example)]
    folded = "\x1f".join(" ".join(turn.split()) if case_matters else normalised(turn) for turn in turns)
    return _key(folded) if any(character.isalnum() for character in folded) else None


def opening_key(example: Example) -> str | None:
    """Hash what is asked before the first answer; None where nothing is.

    The prompt of every answer of a row begins with it, so rows of which any two prompts are equal have one opening.
    """
    return _key("\x1f".join(map(normalised, opening(example)))) if opening(example) else None


def _key(folded: str) -> str:
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def count_by(table: pa.Table, column: str) -> dict[str, int]:
    """Count the values of a text column, by name."""
    counts = pc.value_counts(table[column]).to_pylist()
    return {each["values"]: each["counts"] for each in sorted(counts, key=lambda each: str(each["values"]))}
