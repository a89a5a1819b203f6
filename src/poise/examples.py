"""The values every stage reads and writes: Message and the four Examples, JSON in and out, content ids."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, cast

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


class Content:
    """What the four Examples have in common."""

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
    """Messages; every assistant turn is trained on."""

    kind: ClassVar[str] = "conversation"
    messages: tuple[Message, ...]
    source: str = ""
    lineage: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreferencePair(Content):
    """A prompt with a preferred and a dispreferred continuation; both may hold several turns."""

    kind: ClassVar[str] = "preference_pair"
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    source: str = ""
    lineage: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabeledConversation(Content):
    """Messages that are desirable or not, for objectives on unpaired rows (KTO)."""

    kind: ClassVar[str] = "labeled_conversation"
    messages: tuple[Message, ...]
    desirable: bool
    source: str = ""
    lineage: tuple[str, ...] = ()


Example = Document | Conversation | PreferencePair | LabeledConversation
KINDS: dict[str, type[Example]] = {
    cls.kind: cls for cls in (Document, Conversation, PreferencePair, LabeledConversation)
}


def content_id(example: Example) -> str:
    """Return 16 hex digits of SHA-256 over kind and content; source and lineage do not count."""
    content = asdict(example)
    del content["source"], content["lineage"]
    canonical = json.dumps([example.kind, content], ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def to_json(example: Example) -> dict[str, Any]:
    """Return a JSON-ready mapping that `from_json` turns back into an equal Example."""
    return {"kind": example.kind, "id": example.id, **asdict(example)}


def from_json(row: dict[str, Any]) -> Example:
    """Rebuild the Example that `to_json` wrote."""
    fields = {key: value for key, value in row.items() if key not in ("kind", "id")}
    fields["lineage"] = tuple(fields["lineage"])
    for key in ("messages", "prompt", "chosen", "rejected"):
        if key in fields:
            messages = cast("list[dict[str, Any]]", fields[key])
            fields[key] = tuple(Message(**message) for message in messages)
    return KINDS[row["kind"]](**fields)
