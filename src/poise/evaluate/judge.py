"""A judge: a served model that is asked for verdicts; what it can do is tried once, what it cannot is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise import progress
from poise.errors import DataError
from poise.evaluate.server import Request, Server

TOP_LOGPROBS = 5


@dataclass(frozen=True)
class Judge:
    """A served model as a judge."""

    server: Server
    gives_logprobs: bool

    @property
    def name(self) -> str:
        """The served name."""
        return self.server.model

    @property
    def mode(self) -> str:
        """How a preference is read."""
        return "log-probabilities" if self.gives_logprobs else "verdicts"

    def identity(self) -> dict[str, Any]:
        """What files say of the judge."""
        return {"model": self.name, "host": self.server.endpoint.host}


def open_judge(server: Server, *, needs_logprobs: bool) -> Judge:
    """Say where texts go, and try whether the judge gives log-probabilities where they would be used."""
    where = "on this machine" if server.endpoint.is_local else f"at {server.endpoint.host}, which sees all of it"
    progress.say(f"questions and answers go to the judge {server.model} {where}")
    if not needs_logprobs:
        return Judge(server, gives_logprobs=False)
    settings = (("logprobs", True), ("max_tokens", 1), ("top_logprobs", TOP_LOGPROBS))
    reply = server.ask(Request((("user", "Answer with the letter m."),), settings))
    if reply.first_token is None:
        progress.say(
            f"{server.model} returns no log-probabilities: its verdicts count as 0 or 1, not by their probability"
        )
    return Judge(server, gives_logprobs=reply.first_token is not None)


def warn_of_itself(judge: Judge, contestants: Sequence[str]) -> list[str]:
    """Return a warning where a judge grades its own answers; such judges favour themselves (arXiv 2404.13076)."""
    if judge.name in contestants:
        return [f"the judge {judge.name} grades itself; judges favour their own answers"]
    return []


def require_any(scored: int, judge: Judge, folder: Path) -> None:
    """Refuse to make a score of nothing.

    Raises:
        DataError: not one reply held a verdict.
    """
    if not scored:
        raise DataError(
            f"{judge.name} gave no verdict at all\n"
            "    why:    none of its replies is in the form the judge prompt asks for\n"
            f"    to do:  look into {folder / 'replies.jsonl'}, or take another judge"
        )
