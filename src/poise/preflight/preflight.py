"""Preflight: every check over what is known, once, before the model is loaded; what it finds, told and judged."""

from collections.abc import Callable, Iterator, Sequence

from poise.preflight.beta import check_beta
from poise.preflight.finding import Finding, PreflightError
from poise.preflight.known import Known
from poise.preflight.learning_rate import check_learning_rate
from poise.preflight.lengths import check_lost, check_positions
from poise.preflight.lost import check_drops
from poise.preflight.pairs import check_contradictions, check_length_bias, check_same_rejected
from poise.preflight.precision import check_precision, check_reference
from poise.preflight.resources import (
    check_adapter,
    check_disk,
    check_memory,
    check_refusals,
    check_trackers,
    check_vocabulary,
)
from poise.preflight.rows import (
    check_copies,
    check_damage,
    check_held_out,
    check_leaks,
    check_markers,
    check_nothing_said,
    check_same_answer,
)
from poise.preflight.schedule import check_schedule
from poise.preflight.template import check_bos, check_eos, check_own_template, check_stops, check_turns

CHECKS: tuple[Callable[[Known], Iterator[Finding]], ...] = (
    check_learning_rate,
    check_schedule,
    check_beta,
    check_precision,
    check_reference,
    check_lost,
    check_positions,
    check_bos,
    check_eos,
    check_own_template,
    check_stops,
    check_turns,
    check_drops,
    check_length_bias,
    check_contradictions,
    check_same_rejected,
    check_copies,
    check_leaks,
    check_markers,
    check_nothing_said,
    check_damage,
    check_same_answer,
    check_held_out,
    check_refusals,
    check_trackers,
    check_memory,
    check_disk,
    check_adapter,
    check_vocabulary,
)
SEVEREST_FIRST = ("error", "warning", "note")


def preflight(known: Known) -> list[Finding]:
    """Run every check; returns what they found, errors first."""
    found = [finding for check in CHECKS for finding in check(known)]
    return sorted(found, key=lambda finding: (SEVEREST_FIRST.index(finding.severity), finding.code[1:]))


def that_stop(findings: Sequence[Finding], ignored: Sequence[str]) -> list[Finding]:
    """Return the errors that were not set aside."""
    return [finding for finding in findings if finding.severity == "error" and finding.code not in ignored]


def refuse(findings: Sequence[Finding], ignored: Sequence[str]) -> None:
    """Raise PreflightError with every error that was not set aside."""
    stopping = that_stop(findings, ignored)
    if stopping:
        raise PreflightError(stopping)
