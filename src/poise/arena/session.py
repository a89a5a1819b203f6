"""A session: what one voter sees next and what becomes of a vote. It knows the names and lets none reach the page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from poise.arena.battles import Battle, battle
from poise.arena.contestants import key_of
from poise.arena.store import TYPED, Store, Verdict
from poise.arena.writer import Writer
from poise.errors import RunError
from poise.evaluate.answer import Answer
from poise.evaluate.questions import Question
from poise.examples import Message

LONGEST_PROMPT = 20_000
"""Characters that may be typed."""
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Shown:
    """A battle as the page may know it."""

    id: str
    prompt: list[tuple[str, str]]
    """(role, content) of each turn."""
    left: str
    right: str
    """What may be read of the answers by now."""
    cut: dict[Side, bool]
    """Which reached the limit; known once both are there."""
    whole: bool
    """Whether both answers are there."""


class Session:
    """One voter's way through the battles; a restart begins where the votes on the disk end."""

    def __init__(
        self, battles: Sequence[Battle], writers: Mapping[str, Writer], store: Store, voter: str, seed: int
    ) -> None:
        self._store, self._writers, self._voter, self._seed = store, writers, voter, seed
        self._battles = {each.id: each for each in battles}
        self._planned = [each.id for each in battles]
        self._typed: list[str] = []
        self._voted = store.voted(voter)
        self._whole_since: dict[str, float] = {}
        self.is_ended = False
        for kept, answers in store.battles().values():
            if kept.id in self._battles:
                self._battles[kept.id] = kept  # the sides that others saw, whatever the seed
                self._refuse_other_answers(kept, answers)
            if kept.question.set == TYPED and {kept.left, kept.right} <= set(self.live):
                self._bring(kept)

    @property
    def live(self) -> list[str]:
        """The contestants that can answer a typed prompt."""
        return [label for label, writer in self._writers.items() if writer.contestant.engine is not None]

    @property
    def can_type(self) -> bool:
        """Whether a prompt of one's own can be answered by two."""
        return len(self.live) >= 2

    @property
    def progress(self) -> tuple[int, int]:
        """How many battles are voted on, of how many."""
        known = [*self._planned, *(id for id in self._typed if not self._is_lost(id))]
        return sum(id in self._voted for id in known), len(known)

    @property
    def can_take_back(self) -> bool:
        """Whether a vote is there and no name has been told."""
        return bool(self._voted) and not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether the names may be told: the voter has ended it, or nothing is left to vote on."""
        return self.is_ended or (self.current() is None and not self.can_type)

    @property
    def has_failed(self) -> bool:
        """Whether the last typed prompt could not be answered."""
        return bool(self._typed) and self._is_lost(self._typed[-1])

    def current(self) -> Battle | None:
        """Return what to vote on: typed prompts first. Equal answers are a tie, and nobody is asked."""
        for id in [*self._typed, *self._planned]:
            if id not in self._voted and not self._is_lost(id):
                found = self._battles[id]
                answers = self._answers(found)
                if answers is None or answers[0].text.strip() != answers[1].text.strip():
                    return found
                self._keep(found, answers, "tie", None)
        return None

    def show(self, id: str) -> Shown | None:
        """Return what may be seen of a battle; None where there is none of this id, or it could not be answered.

        Of answers that are being written as much is shown on the left as on the right, so that speed tells nothing.
        """
        if id not in self._battles or self._is_lost(id):
            return None
        found = self._battles[id]
        question, answers = found.question, self._answers(found)
        prompt: list[tuple[str, str]] = [(each.role, each.content) for each in question.prompt] or [
            ("text", question.text)
        ]
        if answers is not None:
            self._whole_since.setdefault(id, time.monotonic())
            left, right = answers
            cut: dict[Side, bool] = {"left": not left.stopped, "right": not right.stopped}
            return Shown(id, prompt, left.text, right.text, cut, whole=True)
        left, right = self._half_said(found)
        return Shown(id, prompt, left, right, {"left": False, "right": False}, whole=False)

    def vote(self, id: str, verdict: Verdict) -> bool:
        """Keep a vote; False where there is nothing to vote on. A second one on the same battle changes nothing."""
        found = self._battles.get(id)
        answers = self._answers(found) if found else None
        if found is None or answers is None or self.is_over:
            return False
        since = self._whole_since.get(id)
        if id not in self._voted:
            self._keep(found, answers, verdict, time.monotonic() - since if since is not None else 0.0)
        return True

    def take_back(self) -> None:
        """Undo the last vote."""
        if self.can_take_back:
            self._store.take_back(self._voter)
            self._voted = self._store.voted(self._voter)
            self._whole_since.clear()

    def ask(self, prompt: str) -> bool:
        """Put a prompt to two models before everything else; False where it is empty, too long or was voted on."""
        if not prompt.strip() or len(prompt) > LONGEST_PROMPT or not self.can_type or self.is_over:
            return False
        question = Question("", TYPED, (Message("user", prompt.strip()),))
        question = Question(key_of(question)[:16], TYPED, question.prompt)
        meetings = [battle(question, *pair, self._seed) for pair in combinations(sorted(self.live), 2)]
        fresh = next((each for each in sorted(meetings, key=_id) if each.id not in self._voted), None)
        if fresh is None:
            return False
        self._store.add(fresh)
        self._bring(fresh)
        return True

    def end(self) -> None:
        """Tell the names."""
        self.is_ended = True

    def _bring(self, typed: Battle) -> None:
        if typed.id in self._battles:
            return
        self._battles[typed.id] = typed
        self._typed.append(typed.id)
        for label in (typed.left, typed.right):
            self._writers[label].answer_next(typed.question)

    def _refuse_other_answers(self, kept: Battle, answers: tuple[Answer, Answer] | None) -> None:
        now = self._answers(kept)
        if answers is not None and now is not None and [each.text for each in now] != [each.text for each in answers]:
            raise RunError(
                f"{self._store.path} holds votes on other answers of {kept.left} and {kept.right} to the same prompt\n"
                "    why:    a file of answers has changed, and votes on both would be mixed\n"
                "    to do:  choose another --out"
            )

    def _is_lost(self, id: str) -> bool:
        found = self._battles[id]
        return any(self._writers[label].has_failed(found.question) for label in (found.left, found.right))

    def _keep(self, found: Battle, answers: tuple[Answer, Answer], verdict: Verdict, seconds: float | None) -> None:
        self._store.vote(found, answers, self._voter, verdict, seconds)
        self._voted.add(found.id)

    def _answers(self, found: Battle) -> tuple[Answer, Answer] | None:
        left, right = (self._writers[label].answer_to(found.question) for label in (found.left, found.right))
        return (left, right) if left is not None and right is not None else None

    def _half_said(self, found: Battle) -> tuple[str, str]:
        left, right = self._writers[found.left], self._writers[found.right]
        writing = [writer for writer in (left, right) if writer.answer_to(found.question) is None]
        reach = min((len(writer.said(found.question)) for writer in writing), default=0)
        return left.said(found.question)[:reach], right.said(found.question)[:reach]


def _id(found: Battle) -> Any:
    return found.id
