"""A conversation in which a question can have two answers, and what can be kept of it to train on.

question ──> left, right ──/prefer left──> left stays, and the pair is kept
                  └─────── next question ─> the one that stands stays: left, or after /retry the newer
"""

from dataclasses import dataclass, field
from typing import Any

from poise.errors import PoiseError
from poise.examples import Message

SIDES = ("left", "right")


class NotNow(PoiseError):  # noqa: N818 - no error, but a command that has nothing to act on
    """What was asked for cannot be done at this place of the conversation."""


@dataclass(frozen=True)
class Said:
    """One answer to the last question."""

    model: str
    text: str


@dataclass
class Talk:
    """What has been said so far."""

    system: str = ""
    settled: list[Message] = field(default_factory=list[Message])
    """Turns up to and with the last question."""
    answers: list[Said] = field(default_factory=list[Said])
    """To the last question; at most two."""
    standing: int = 0
    """Which of them the conversation goes on with."""

    def prompt(self) -> tuple[Message, ...]:
        """Return what a model is to answer."""
        system = (Message("system", self.system),) if self.system else ()
        return (*system, *self.settled)

    def messages(self) -> tuple[Message, ...]:
        """Return the whole conversation, with the answer that stands."""
        answer = (Message("assistant", self.answers[self.standing].text),) if self.answers else ()
        return (*self.prompt(), *answer)

    def ask(self, text: str) -> None:
        """Settle the answer that stands and ask the next question."""
        if self.answers:
            self.settled.append(Message("assistant", self.answers[self.standing].text))
        self.settled.append(Message("user", text))
        self.answers, self.standing = [], 0

    def answered(self, *answers: Said) -> None:
        """Take the answers to the last question."""
        self.answers, self.standing = list(answers), 0

    def answered_again(self, answer: Said) -> None:
        """Set another answer beside the one that stands; it is the right one, and stands from now on."""
        self.answers = [self.answers[self.standing], answer]
        self.standing = 1

    def undo(self) -> None:
        """Take back the last question with its answers; the answer before it stands again."""
        if not self.settled:
            raise NotNow("nothing has been asked")
        self.settled.pop()
        before = self.settled.pop() if self.settled else None
        self.answers, self.standing = ([Said("", before.content)] if before else []), 0

    def prefer(self, side: str) -> dict[str, Any]:
        """Let one of two answers stand; returns a row that preference training reads."""
        if side not in SIDES:
            raise NotNow("say /prefer left or /prefer right")
        if len(self.answers) < 2:
            raise NotNow("there are no two answers to compare: talk with two models, or /retry")
        chosen = self.answers[SIDES.index(side)]
        rejected = self.answers[1 - SIDES.index(side)]
        if chosen.text == rejected.text:
            raise NotNow("both answers are the same")
        self.standing = SIDES.index(side)
        return {
            "prompt": [vars(message) for message in self.prompt()],
            "chosen": [{"role": "assistant", "content": chosen.text}],
            "rejected": [{"role": "assistant", "content": rejected.text}],
            "chosen_model": chosen.model,
            "rejected_model": rejected.model,
        }

    def row(self) -> dict[str, Any]:
        """Return the conversation as a row that supervised training reads."""
        if not self.answers:
            raise NotNow("nothing has been answered")
        return {"messages": [vars(message) for message in self.messages()]}
