"""Rows that were dropped, by what that says about data, template or recipe."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from poise.preflight.finding import Finding, degree, places, share
from poise.preflight.known import Known
from poise.run import Drop


@dataclass(frozen=True)
class Cause:
    """Reasons for a drop that say the same about a recipe."""

    number: int
    reasons: tuple[str, ...]
    warns: float
    says: str


CAUSES = (
    Cause(
        303,
        (
            "the template rewrites a message", "the template refuses it", "the template leaves out a message",
            "the prompt reads otherwise before its answer",
        ),
        0.01,
        "do not fit the chat template",
    ),
    Cause(403, ("chosen equals rejected", "no answer ranks above another"), 0.1, "prefer nothing"),
    Cause(
        404,
        (
            "empty completion", "empty prompt", "empty document", "no trained tokens", "no messages",
            "the completion does not begin with an assistant turn",
        ),
        0.1,
        "hold nothing to train on",
    ),
)  # fmt: skip
BROKEN = 414
BROKEN_WARNS, STOPS = 0.1, 0.5


def check_drops(known: Known) -> Iterator[Finding]:
    """Say what share of the rows was dropped for each cause."""
    told = {reason for cause in CAUSES for reason in cause.reasons}
    for cause in CAUSES:
        dropped = [drop for drop in known.drops if drop.reason in cause.reasons]
        yield from _finding(known, dropped, cause.number, cause.warns, cause.says)
    broken = [drop for drop in known.drops if drop.stage == "load" and drop.reason not in told]
    yield from _finding(known, broken, BROKEN, BROKEN_WARNS, "are broken")


def _finding(known: Known, dropped: Sequence[Drop], number: int, warns: float, says: str) -> Iterator[Finding]:
    if not dropped:
        return
    count = round(sum(known.scale if drop.stage == "render" else 1.0 for drop in dropped))
    first = f"{dropped[0].reason}: {dropped[0].evidence}" if dropped[0].evidence else dropped[0].reason
    yield Finding(
        degree(count / max(1, known.rows_in), number, warns=warns, stops=STOPS),
        f"{'about ' if known.scale > 1 else ''}{share(count, known.rows_in)} {says} and are dropped ({first[:160]})",
        rows=places(dropped),
    )
