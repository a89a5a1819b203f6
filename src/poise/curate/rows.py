"""Rows of a curation: what is stored of each once it is loaded, and what stages decide about them.

Rows are written once, when a source is loaded. Every later stage writes only its decisions, so that a row of two
kilobytes is not copied ten times, and a row's history is what the stages say about its id.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from poise import progress
from poise.curate.arrow import compute as pc
from poise.curate.engine import Engine, Frame
from poise.curate.reason import Reason
from poise.curate.texts import messages_of, normalised, opening
from poise.examples import (
    DEFAULTS,
    KINDS,
    Conversation,
    Document,
    Example,
    LabeledConversation,
    Message,
    from_json,
)

KEY_BYTES = 16
QUIET_SECONDS = 2.0
"""A stage that takes no longer says its result alone."""
ID_IN_RANK = len("97 0000 ")
"""Where the id begins in a rank."""
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
        ("key", pa.binary(KEY_BYTES)),  # hash of task and question: rows with the same one are exact duplicates
        ("stratum", pa.string()),
        ("content", pa.string()),  # the Example as JSON, without source and lineage
    ]
)
DROPS = pa.schema([("id", pa.string()), ("reason", pa.string()), ("evidence", pa.string()), ("other", pa.string())])
"""Decisions against rows; `other` is the row that was kept instead, or empty."""
EVIDENCE_CHARACTERS = 200
CONTENT_FIELDS = {
    kind: sorted(field.name for field in fields(example) if field.name not in ("source", "lineage"))
    for kind, example in KINDS.items()
}
CANONICAL = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"))


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
    stage: str = ""
    """The name of the stage that sees them, to show how far it is."""

    def frame(self, *names: str) -> Frame:
        """Return columns of the rows that are left; those that earlier stages measured are joined on."""
        stored = [name for name in dict.fromkeys(("id", *names)) if name in ROWS.names]
        found = self.engine.without(self.engine.scan(self.files).select(*stored), self.dropped)
        for table in self.columns:
            wanted = [name for name in names if name in table.column_names and name not in ROWS.names]
            if wanted:
                found = found.join(self.engine.of(table.select(["id", *wanted])), on="id", how="left")
        return found

    def stored(self, *names: str) -> pa.Table:
        """Read small stored columns in this process, in no order that means anything."""
        if not len(self.dropped):
            return self.engine.read(self.files, names)
        found = self.engine.read(self.files, list(dict.fromkeys(("id", *names))))
        is_dropped = pc.is_in(found["id"], value_set=self.dropped["id"].combine_chunks())
        return found.filter(pc.invert(is_dropped)).select(list(names))

    def table(self, *names: str) -> pa.Table:
        """Collect columns, sorted by id."""
        return self.engine.collect(self.frame(*names)).sort_by("id").combine_chunks()

    def judged(self, judge: Callable[[Example], Reason | None]) -> pa.Table:
        """Return the drops of a step that judges each row for itself."""
        told = self.measured(_Judge(judge), "verdict").drop_null()
        return drops_of(
            (row_id, *json.loads(verdict), "")
            for row_id, verdict in zip(told["id"].to_pylist(), told["verdict"].to_pylist(), strict=True)
        )

    def measured(self, measure: Callable[[list[str], list[str]], list[str | None]], name: str) -> pa.Table:
        """Return (id, name) where a picklable function gives text for whole columns of kind and content."""
        return self.mapped(measure, ("kind", "content"), name, "id", apart=True).sort_by("id").combine_chunks()

    def mapped(
        self,
        function: Callable[..., list[str | None]],
        inputs: Sequence[str],
        name: str,
        *beside: str,
        apart: bool = False,
    ) -> pa.Table:
        """Return the columns `beside` and a text column by a picklable function of whole columns, in any order.

        It may run in processes `apart`, where there are enough rows for it to pay; how far it is is shown.
        """
        rows = self.count if apart else 0
        frame = self.engine.mapped(self.frame(*inputs, *beside), function, inputs, name, rows).select(*beside, name)
        with progress.stage(self.stage or name, self.count, QUIET_SECONDS) as shown:
            return self.engine.collect(frame, shown)


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
    example: Example,
    source: str,
    copies: Counter[str],
    *,
    confidence: int,
    order: int,
    stratum: str | None,
    case_matters: bool,
) -> dict[str, Any]:
    """Return what is stored of an Example; `copies` counts the equal ones of a source, of which each has its own id."""
    content = content_of(example)
    row_id = f"{source}:{digest(example.kind, content)}"
    copies[row_id] += 1
    if (copy := copies[row_id] - 1) > 0:
        row_id = f"{row_id}-{copy}"
    task, question = task_of(example), question_key(example, case_matters=case_matters) or row_id
    return {
        "id": row_id,
        "source": source,
        "kind": example.kind,
        "task": task,
        "place": example.place,
        "lineage": list(example.lineage),
        "rank": f"{99 - confidence:02d} {order:04d} {row_id}",
        "question": question,
        "opening": opening_key(example) or row_id,
        "key": exact_key(task, question),
        "stratum": stratum,
        "content": content,
    }


def exact_key(task: str, question: str) -> bytes:
    """Hash what exact duplicates have in common."""
    return hashlib.blake2b(f"{task} {question}".encode(), digest_size=KEY_BYTES).digest()


def task_of(example: Example) -> str:
    """Return the kind, for labelled conversations with whether the answer is wanted."""
    wanted = isinstance(example, LabeledConversation) and not example.desirable
    return f"{example.kind}, undesirable" if wanted else example.kind


def content_of(example: Example) -> str:
    """Write an Example's content in one way only."""
    fields = ((name, getattr(example, name)) for name in CONTENT_FIELDS[example.kind])
    return CANONICAL.encode({name: _plain(value) for name, value in fields if DEFAULTS.get(name) != value})


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return {"content": value.content, "role": value.role}
    return list(map(_plain, value)) if isinstance(value, tuple) else value


def digest(kind: str, content: str) -> str:
    """Return `Example.id` of what `content_of` wrote."""
    return hashlib.sha256(f'["{kind}",{content}]'.encode()).hexdigest()[:16]


def example_of(kind: str, content: str) -> Example:
    """Rebuild an Example, without source and lineage."""
    fields = loaded(content)
    if kind == Document.kind:
        return Document(fields["text"])
    if kind == Conversation.kind:
        fields["messages"] = tuple([Message(each["role"], each["content"]) for each in fields["messages"]])
        return Conversation(**fields)
    return from_json({"kind": kind, "lineage": (), **fields})


def loaded(content: str) -> dict[str, Any]:
    """Read what `content_of` wrote; a lone surrogate, which is no text, is for the slower reader."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return json.loads(content)


def question_key(example: Example, *, case_matters: bool = False) -> str | None:
    """Hash the system prompt and all user turns, a document's text; None where there is no letter or digit in them."""
    if isinstance(example, Document):
        turns = [example.text]
    else:
        messages = messages_of(example)
        turns = [message.content for role in ("system", "user") for message in messages if message.role == role]
    folded = "\x1f".join(" ".join(turn.split()) if case_matters else _folded(turn) for turn in turns)
    return _key(folded) if any(map(str.isalnum, folded)) else None


def opening_key(example: Example) -> str | None:
    """Hash what is asked before the first answer; None where nothing is.

    The prompt of every answer of a row begins with it, so rows of which any two prompts are equal have one opening.
    """
    turns = opening(example)
    return _key("\x1f".join(map(_folded, turns))) if turns else None


@lru_cache(maxsize=16)
def _folded(turn: str) -> str:
    """Fold a turn once for both keys of its row."""
    return normalised(turn)


def _key(folded: str) -> str:
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def count_by(table: pa.Table, column: str) -> dict[str, int]:
    """Count the values of a text column, by name."""
    counts = pc.value_counts(table[column]).to_pylist()
    return {each["values"]: each["counts"] for each in sorted(counts, key=lambda each: str(each["values"]))}
