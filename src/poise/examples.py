"""The values every stage reads and writes: Message and the five Examples, JSON in and out, content ids."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import Any, ClassVar, Literal, cast

Role = Literal["system", "user", "assistant", "tool"]
Trained = Literal["all", "last"]
OWN_TEMPLATE = "tokenizer"
"""Names the tokenizer's own chat template, or the one that the recipe puts in its place."""
DEFAULTS = {"template": "", "trained": "all"}
"""Fields that stay out of id and JSON where they say nothing, so that they change no id of before them."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


class Content:
    """What the five Examples have in common."""

    kind: ClassVar[str]
    lineage: tuple[str, ...]

    @property
    def id(self) -> str:
        """Hash of the content alone: equal content has equal id, wherever it came from."""
        return content_id(cast("Example", self))

    @property
    def place(self) -> str:
        """Where it was first read, `file:row`; empty where it was made in memory."""
        return self.lineage[0] if self.lineage else ""


@dataclass(frozen=True)
class Document(Content):
    """Plain text, every token of which is trained on."""

    kind: ClassVar[str] = "document"
    text: str
    source: str = ""
    lineage: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversation(Content):
    """Messages; every assistant turn is trained on, or the last one alone."""

    kind: ClassVar[str] = "conversation"
    messages: tuple[Message, ...]
    source: str = ""
    lineage: tuple[str, ...] = ()
    template: str = ""
    """The chat template that it is rendered in; empty for that of the run."""
    trained: Trained = "all"


@dataclass(frozen=True)
class PreferencePair(Content):
    """A prompt with a preferred and a dispreferred continuation; both may hold several turns."""

    kind: ClassVar[str] = "preference_pair"
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    source: str = ""
    lineage: tuple[str, ...] = ()
    template: str = ""


@dataclass(frozen=True)
class LabeledConversation(Content):
    """Messages that are desirable or not, for objectives on unpaired rows (KTO)."""

    kind: ClassVar[str] = "labeled_conversation"
    messages: tuple[Message, ...]
    desirable: bool
    source: str = ""
    lineage: tuple[str, ...] = ()
    template: str = ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What stands before the last assistant turn, which is the answer that the label is about."""
        answers = [index for index, message in enumerate(self.messages) if message.role == "assistant"]
        return self.messages[: answers[-1]] if answers else ()


@dataclass(frozen=True)
class RankedAnswers(Content):
    """A prompt with two or more answers and their order; each is compared with all of another rank."""

    kind: ClassVar[str] = "ranked_answers"
    prompt: tuple[Message, ...]
    answers: tuple[tuple[Message, ...], ...]
    ranks: tuple[int, ...]
    """Place of each answer, 0 the best; answers of equal rank are not compared."""
    source: str = ""
    lineage: tuple[str, ...] = ()
    template: str = ""


Example = Document | Conversation | PreferencePair | LabeledConversation | RankedAnswers
KINDS: dict[str, type[Example]] = {
    cls.kind: cls for cls in (Document, Conversation, PreferencePair, LabeledConversation, RankedAnswers)
}


def content_id(example: Example) -> str:
    """Return 16 hex digits of SHA-256 over kind and content; source and lineage do not count."""
    content = fields_of(example)
    del content["source"], content["lineage"]
    canonical = json.dumps([example.kind, content], ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def asked(example: Example) -> Any:
    """Return what two Examples share when they answer the same question: the prompt, or a document itself."""
    if isinstance(example, PreferencePair | LabeledConversation | RankedAnswers):
        return example.prompt
    if isinstance(example, Conversation):
        return tuple(takewhile(lambda message: message.role != "assistant", example.messages))
    return example.id


def to_json(example: Example) -> dict[str, Any]:
    """Return a JSON-ready mapping that `from_json` turns back into an equal Example."""
    return {"kind": example.kind, "id": example.id, **fields_of(example)}


def fields_of(example: Example) -> dict[str, Any]:
    """Return an Example's fields, without those that say nothing."""
    return {name: value for name, value in asdict(example).items() if DEFAULTS.get(name) != value}


def template_of(example: Example) -> str:
    """Return the chat template that an Example asks for, empty where it asks for none; a document has no turns."""
    return "" if isinstance(example, Document) else example.template


def without_template(example: Example) -> Example:
    """Return an Example that asks for no chat template."""
    return example if isinstance(example, Document) or not example.template else replace(example, template="")


def from_json(row: dict[str, Any]) -> Example:
    """Rebuild the Example that `to_json` wrote."""
    fields = {key: value for key, value in row.items() if key not in ("kind", "id")}
    fields["lineage"] = tuple(fields["lineage"])
    for key in ("messages", "prompt", "chosen", "rejected"):
        if key in fields:
            fields[key] = _messages(fields[key])
    if "answers" in fields:
        fields["answers"] = tuple(map(_messages, fields["answers"]))
        fields["ranks"] = tuple(fields["ranks"])
    return KINDS[row["kind"]](**fields)


def _messages(rows: list[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message(**row) for row in rows)
