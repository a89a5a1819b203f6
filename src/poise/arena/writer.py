"""A thread in which one model answers while people vote: the questions in their order, a typed prompt before them."""

import threading
from collections.abc import Iterable, Sequence

from poise import progress
from poise.arena.contestants import Contestant, key_of
from poise.evaluate.answer import Answer, Sampling
from poise.evaluate.engine import Served, answer_all
from poise.evaluate.journal import Journal
from poise.evaluate.questions import Question


class _Stopped(Exception):  # noqa: N818 - not an error: its work is left for another time
    """Raised inside the answering to end it."""


class Writer(threading.Thread):
    """What a contestant has said, and is saying.

    The first question is answered alone, so that the page has something to show, then two together, four, and so on.
    """

    def __init__(
        self, contestant: Contestant, sampling: Sampling, journal: Journal, questions: Iterable[Question], most: int
    ) -> None:
        super().__init__(name=f"answers of {contestant.label}", daemon=True)
        self.contestant = contestant
        self.error: BaseException | None = None
        self._sampling, self._journal, self._most = sampling, journal, most
        self._answers: dict[str, Answer] = dict(contestant.written)
        self._said: dict[str, str] = {}
        self._waiting: list[Question] = []
        self._typed: list[Question] = []
        self._failed: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self.will_answer(questions)

    def will_answer(self, questions: Iterable[Question]) -> None:
        """Answer these after those that wait."""
        with self._changed:
            self._waiting += [question for question in questions if key_of(question) not in self._answers]
            self._changed.notify()

    def answer_next(self, question: Question) -> None:
        """Answer this before all others: somebody waits for it."""
        with self._changed:
            self._typed.append(question)
            self._changed.notify()

    def answer_to(self, question: Question) -> Answer | None:
        """Return the answer where it is there."""
        return self._answers.get(key_of(question))

    def said(self, question: Question) -> str:
        """Return what was said so far."""
        answer = self.answer_to(question)
        return answer.text if answer else self._said.get(key_of(question), "")

    def has_failed(self, question: Question) -> bool:
        """Whether a typed prompt could not be answered."""
        return key_of(question) in self._failed

    def stop(self) -> None:
        """End, leaving unsaid what is half said."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if isinstance(self.contestant.engine, Served):
            self.contestant.engine.server.stop()

    def run(self) -> None:
        """Answer until stopped; what goes wrong is kept for the main thread."""
        together = 1
        with progress.silent():
            try:
                while not self._stopping:
                    if typed := self._next_typed():
                        self._answer_typed(typed)
                    elif chunk := self._next(together):
                        self._answer(chunk)
                        together = min(2 * together, self._most)
            except BaseException as error:
                if not self._stopping:
                    self.error = error

    def _next_typed(self) -> Question | None:
        """Wait for something to answer; return a typed prompt where one is there."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._typed or self._waiting)
            return self._typed.pop(0) if self._typed else None

    def _next(self, together: int) -> Sequence[Question]:
        with self._changed:
            chunk, self._waiting = self._waiting[:together], self._waiting[together:]
            return chunk

    def _answer_typed(self, question: Question) -> None:
        """Answer what somebody typed; one prompt that is too long for a model ends no arena."""
        try:
            self._answer([question])
        except Exception as error:
            if self._stopping:
                raise
            progress.say(f"a typed prompt could not be answered by {self.contestant.label}: {error}")
            self._failed.add(key_of(question))

    def _answer(self, chunk: Sequence[Question]) -> None:
        engine = self.contestant.engine
        assert engine is not None
        answers = answer_all(engine, chunk, self._sampling, self._journal, self.contestant.label, self._hear)
        for question, answer in zip(chunk, answers, strict=True):
            self._answers[key_of(question)] = answer

    def _hear(self, question: Question, said: str) -> None:
        if self._stopping:
            raise _Stopped
        self._said[key_of(question)] = said
