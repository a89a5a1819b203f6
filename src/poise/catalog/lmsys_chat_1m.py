"""LMSYS-Chat-1M: what people asked chat models in the wild, by default the chats with GPT-4 (arXiv:2309.11998).

https://huggingface.co/datasets/lmsys/lmsys-chat-1m

    {"conversation_id": "…", "model": "gpt-4", "conversation": [{"content": "Hi", "role": "user"}, …], "turn": 1,
     "language": "English", "openai_moderation": [{"categories": {…}, "flagged": false}, …], "redacted": false}
"""

from typing import Any

from poise.examples import Conversation
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow
from poise.sources.refusal import NothingToLearn
from poise.sources.turns import messages_in

ABOUT = About(
    hub="lmsys/lmsys-chat-1m",
    columns={
        "model": str,
        "conversation": [{"content": str, "role": str}],
        "language": str,
        "openai_moderation": [{"flagged": bool}],
        "redacted": bool,
    },
    licence="LMSYS-Chat-1M licence",
    risk="Chats are as people wrote them, some of them unsafe or offensive; drop_flagged leaves out what was flagged.",
)


def read(
    row: SourceRow,
    *,
    model: str = "gpt-4",
    language: str | None = None,
    drop_flagged: bool = False,
    drop_redacted: bool = False,
) -> Conversation:
    """Take the chats with one model, in one language or in all."""
    messages = messages_in(row.columns, "conversation")
    if row["model"] != model:
        raise NothingToLearn("another model", row["model"])
    if language is not None and row["language"] != language:
        raise NothingToLearn("another language", row["language"])
    if drop_flagged and _is_flagged(row["openai_moderation"]):
        raise NothingToLearn("flagged by moderation", "openai_moderation")
    if drop_redacted and row["redacted"]:
        raise NothingToLearn("redacted", "redacted")
    return conversation(messages, "conversation")


def _is_flagged(verdicts: list[dict[str, Any]]) -> bool:
    return any(verdict["flagged"] for verdict in verdicts)
