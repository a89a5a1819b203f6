"""Why a row was dropped: a phrase that can be counted, and what was seen."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """One decision against a row."""

    phrase: str
    evidence: str = ""
