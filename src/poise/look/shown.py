"""A row as a person reads it: who says what, in turn, and no more of it than a page can show.

[{"who": "user", "text": "Hi"}, {"who": "chosen", "text": "Hello!"}, {"who": "rejected", "text": "Go away."}]
"""

from collections.abc import Sequence
from typing import Any

from poise.report.wording import count

TEXT_CHARACTERS, TURNS_SHOWN = 4000, 20
Turn = dict[str, str]
"""`who` and `text`."""


def shown(kind: str, row: dict[str, Any]) -> list[Turn]:
    """Return the turns of a row, long texts and many turns cut short."""
    if kind == "document":
        return [{"who": "text", "text": _clipped(row["text"])}]
    turns = [
        {"who": _who(group, turn["role"]), "text": _clipped(turn["content"])}
        for group, listed in _groups(row)
        for turn in listed
    ]
    left = len(turns) - TURNS_SHOWN
    more = [{"who": "…", "text": f"{left} more turns"}] if left > 0 else []
    return [*turns[:TURNS_SHOWN], *more, *_label(row)]


def beginning(turns: Sequence[Turn]) -> Turn | None:
    """Return the turn that tells rows apart: the first that is not the system's, which many rows share."""
    return next((turn for turn in turns if turn["who"] != "system"), None)


def _groups(row: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return what each list of turns is called, and the list; what is asked needs no name."""
    answers = zip(row.get("answers") or (), row.get("ranks") or (), strict=False)
    return [
        ("", row.get("messages") or row.get("prompt") or []),
        *((name, row[name]) for name in ("chosen", "rejected") if name in row),
        *((f"answer of rank {rank}", answer) for answer, rank in answers),
    ]


def _who(group: str, role: str) -> str:
    return group if group and role == "assistant" else f"{group}, {role}".removeprefix(", ")


def _label(row: dict[str, Any]) -> list[Turn]:
    label = row.get("label", row.get("desirable"))
    return [] if label is None else [{"who": "label", "text": "desirable" if label else "not desirable"}]


def _clipped(text: str | None) -> str:
    whole = text or ""
    left = len(whole) - TEXT_CHARACTERS
    return whole if left <= 0 else f"{whole[:TEXT_CHARACTERS]} … {count(left)} more characters"
