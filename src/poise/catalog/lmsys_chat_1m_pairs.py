"""LMSYS-Chat-1M in pairs: GPT-4's answer against that of the largest open model asked the same (arXiv:2309.11998).

https://huggingface.co/datasets/lmsys/lmsys-chat-1m

    {"model": "vicuna-13b", "conversation": [{"content": "Hi", "role": "user"}, {"content": "Yo", "role": "assistant"}]}
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from poise.examples import Message, PreferencePair
from poise.sources.dataset import About, Bad, Left, Outcome, SourceRow
from poise.sources.refusal import NothingToLearn, RowError
from poise.sources.turns import messages_in

BEST = "gpt-4"
SIZE = re.compile(r"-(\d{1,2})b\b", re.IGNORECASE)
"""Billions of weights in the name of an open model: `llama-2-7b-chat`, `vicuna-13b`, `RWKV-4-Raven-14B`."""

ABOUT = About(
    hub="lmsys/lmsys-chat-1m",
    columns={"model": str, "conversation": [{"content": str, "role": str}]},
    licence="LMSYS-Chat-1M licence",
    risk="Chats are as people wrote them, some of them unsafe or offensive.",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said; packed, because it waits for GPT-4's answer until the last of a million rows is read."""

    place: str
    digest: str
    billions: int
    packed: bytes

    @property
    def message(self) -> Message:
        """The answer as a turn."""
        return Message("assistant", zlib.decompress(self.packed).decode())


def read_all(rows: Iterable[SourceRow]) -> Iterator[Outcome]:
    """Pair single questions and answers; one pair for a question, however often it was asked."""
    questions: dict[bytes, Message] = {}
    chosen: dict[bytes, Answer] = {}
    rejected: dict[bytes, Answer] = {}
    for row in rows:
        try:
            question, answer = _exchange(row)
        except NothingToLearn as verdict:
            yield Left(row.place, verdict.reason, verdict.evidence)
        except RowError as error:
            yield Bad(row.place, error)
        else:
            key = sha256(question.content.encode()).digest()[:16]
            if row["model"] == BEST:
                questions[key] = question
            yield from _keep(chosen if row["model"] == BEST else rejected, key, answer)
    for key, best in chosen.items():
        yield from _pair(questions[key], best, rejected.pop(key, None))
    yield from (Left(answer.place, f"{BEST} was not asked the same") for answer in rejected.values())


def _exchange(row: SourceRow) -> tuple[Message, Answer]:
    messages = messages_in(row.columns, "conversation")
    size = SIZE.search(row["model"])
    if row["model"] != BEST and size is None:
        raise NothingToLearn("a model of unknown size", row["model"])
    if [message.role for message in messages] != ["user", "assistant"]:
        raise NothingToLearn("not one question and one answer", "conversation")
    question, answer = messages
    if not answer.content.strip():
        raise NothingToLearn("empty completion", "conversation")
    packed = zlib.compress(answer.content.encode(), level=1)
    return question, Answer(row.place, row.digest, int(size[1]) if size else 0, packed)


def _keep(answers: dict[bytes, Answer], key: bytes, answer: Answer) -> Iterator[Left]:
    """Keep the answer of the larger model, and of two models of one size the row of lower digest."""
    both = (answers.get(key, answer), answer)
    kept, other = sorted(both, key=lambda each: (-each.billions, each.digest))
    answers[key] = kept
    if other is not kept:
        yield Left(other.place, "another answer was taken")


def _pair(question: Message, best: Answer, other: Answer | None) -> Iterator[PreferencePair | Left]:
    if other is None:
        yield Left(best.place, "no open model was asked the same")
    elif best.message == other.message:
        yield from (Left(place, "chosen equals rejected") for place in (best.place, other.place))
    else:
        lineage = (best.place, other.place)
        yield PreferencePair((question,), (best.message,), (other.message,), lineage=lineage)
