"""The pages: what is shown to vote on, and the end, where the names are told.

All texts are models' and people's, so every one is escaped; the page runs its own script alone and loads nothing from
elsewhere.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader

from poise.arena.session import LONGEST_PROMPT, Session, Shown
from poise.report.report import VISIBLE

CHOICES = (
    ("left", "ArrowLeft", "←", "Left is better"),
    ("tie", "t", "t", "Tie"),
    ("both_bad", "x", "x", "Both are bad"),
    ("right", "ArrowRight", "→", "Right is better"),
)
"""Verdict, the key that gives it, how the key is written, and what the button says."""


def vote_page(session: Session, shown: Shown | None, check: str) -> str:
    """Write the page of a battle; without one, of having voted on all while prompts can still be typed."""
    done, total = session.progress
    return _write(
        "vote.html.jinja",
        shown=shown,
        choices=CHOICES,
        done=done,
        total=total,
        can_type=session.can_type,
        has_failed=session.has_failed,
        can_take_back=session.can_take_back,
        longest=LONGEST_PROMPT,
        check=check,
    )


def end_page(told: dict[str, Any], left: int) -> str:
    """Write the page that tells the names; `left` battles were not voted on."""
    return _write("end.html.jinja", left=left, **told)


@cache
def assets() -> dict[str, tuple[str, str]]:
    """Return the style and the script, each with its type."""
    report, _, _ = PackageLoader("poise.report").get_source(Environment(autoescape=True), "style.css")
    own, script = (_templates().loader.get_source(_templates(), name)[0] for name in ("arena.css", "arena.js"))  # pyright: ignore[reportOptionalMemberAccess]
    return {"arena.css": (report + own, "text/css"), "arena.js": (script, "text/javascript")}


def visible(text: str) -> str:
    """Show controls as escapes: a direction override could turn the words of the page around."""
    return text.translate(VISIBLE)


@cache
def _templates() -> Environment:
    return Environment(loader=PackageLoader("poise.arena"), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _write(template: str, **values: Any) -> str:
    render: Callable[..., str] = _templates().get_template(template).render
    return visible(render(**values))
