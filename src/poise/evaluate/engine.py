"""What answers questions: a model in this process, or a served one; every answer is kept when it is there."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from poise.errors import DataError
from poise.evaluate.answer import Answer, Sampling
from poise.evaluate.journal import Journal, content_key
from poise.evaluate.questions import Question
from poise.evaluate.server import Request, Server, without_reasoning

Keep = Callable[[Question, Answer], None]
Hear = Callable[[Question, str], None]
"""Told what has been said of an answer so far; what it raises ends the answering."""


class Engine(Protocol):
    """Answers questions in their order and tells `keep` of each."""

    @property
    def name(self) -> str:
        """What files and tables call the model."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """All of the model that decides its answers; answers of another identity are not reused."""
        ...

    def answer(
        self, questions: Sequence[Question], sampling: Sampling, label: str, keep: Keep, hear: Hear | None = None
    ) -> list[Answer]:
        """Answer every question; `hear` is told of an answer before its end where that is known."""
        ...


@dataclass(frozen=True)
class InProcess:
    """A model that transformers holds in this process, with its tokenizer's own template."""

    name: str
    identity: dict[str, Any]
    model: Any
    renderer: Any
    batch_size: int

    def answer(
        self, questions: Sequence[Question], sampling: Sampling, label: str, keep: Keep, hear: Hear | None = None
    ) -> list[Answer]:
        """Answer in batches."""
        from poise.evaluate.generate import answer

        return answer(
            self.model,
            self.renderer,
            questions,
            label=label,
            batch_size=self.batch_size,
            keep=keep,
            hear=hear,
            **asdict(sampling),
        )


@dataclass(frozen=True)
class Served:
    """A model behind OpenAI's chat protocol; the server applies the template."""

    server: Server

    @property
    def name(self) -> str:
        """The served name."""
        return self.server.model

    @property
    def identity(self) -> dict[str, Any]:
        """Host and name; a server does not tell more."""
        return {"host": self.server.endpoint.host, "model": self.server.model}

    def answer(
        self, questions: Sequence[Question], sampling: Sampling, label: str, keep: Keep, hear: Hear | None = None
    ) -> list[Answer]:
        """Ask for all; DataError where one cannot be answered, since its lack would move every mean.

        An answer comes whole, so `hear` is told of none.
        """
        replies = self.server.ask_all([_request(question, sampling) for question in questions], label)
        refused = [
            f"{question.id}: {reply.error}" for question, reply in zip(questions, replies, strict=True) if reply.error
        ]
        if refused:
            raise DataError(
                f"{self.server.model} refuses {len(refused)} of {len(questions)} questions ({refused[0]})\n"
                "    to do:  give it a longer context, or a smaller --max-new-tokens"
            )
        answers: list[Answer] = []
        for question, reply in zip(questions, map(without_reasoning, replies), strict=True):
            given = Answer(reply.text, reply.tokens, reply.finish == "stop", question.score(reply.text))
            keep(question, given)
            answers.append(given)
        return answers


def answer_all(
    engine: Engine,
    questions: Sequence[Question],
    sampling: Sampling,
    journal: Journal,
    label: str,
    hear: Hear | None = None,
) -> list[Answer]:
    """Answer every question in order; what the journal holds is not asked again, what is new is kept at once."""

    def key(question: Question) -> str:
        asked = [question.id, [asdict(message) for message in question.prompt], question.text]
        return content_key([engine.identity, asked, asdict(sampling)])

    missing = [question for question in questions if journal.get(key(question)) is None]
    if missing:
        engine.answer(
            missing, sampling, label, lambda question, given: journal.keep(key(question), asdict(given)), hear
        )
    kept = [journal.get(key(question)) or {} for question in questions]
    return [Answer(**row) for row in kept]


def _request(question: Question, sampling: Sampling) -> Request:
    messages = tuple((message.role, message.content) for message in question.prompt) or (("user", question.text),)
    settings: dict[str, Any] = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
    if sampling.temperature > 0:
        settings["seed"] = sampling.seed
    return Request(messages, tuple(sorted(settings.items())))
