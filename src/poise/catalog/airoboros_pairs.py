"""Airoboros 3.2 against m2.0: the newer, longer answer to an instruction is chosen over the older one.

https://huggingface.co/datasets/jondurbin/airoboros-3.2
https://huggingface.co/datasets/jondurbin/airoboros-gpt4-m2.0

    {"category": "writing", "conversations": [{"from": "human", "value": "Write two lines on rain."}, …]}
    {"instruction": "Write two lines on rain.", "response": "It rains.", "category": "writing"}
"""

from collections import defaultdict
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from poise.examples import Message, PreferencePair
from poise.sources.dataset import About, Bad, Left, Outcome, SourceRow
from poise.sources.refusal import NothingToLearn, RowError
from poise.sources.turns import messages_in

ABOUT = About(
    hub="jondurbin/airoboros-3.2",
    columns={"conversations": [{"from": str, "value": str}], "category": str},
    licence="cc-by-4.0",
    confidence=1,
)
AGAINST = About(
    hub="jondurbin/airoboros-gpt4-m2.0",
    files=("instructions.jsonl",),
    columns={"instruction": str, "response": str},
    licence="other",
    confidence=1,
)


@dataclass(frozen=True)
class New:
    """The question that a newer row opens with, behind its system turn if it has one, and the answer."""

    place: str
    prompt: tuple[Message, ...]
    answer: Message


@dataclass(frozen=True)
class Old:
    """An older answer."""

    place: str
    digest: str
    answer: Message


def read_all(
    rows: Iterable[SourceRow], *, others: Iterable[SourceRow], categories: Sequence[str] = ("roleplay", "writing")
) -> Iterator[Outcome]:
    """Match new rows of these categories with old ones by their instruction, whatever its case and outer space."""
    new: dict[str, list[New]] = defaultdict(list)
    for row in rows:
        try:
            exchange = _first_exchange(row, categories)
        except NothingToLearn as verdict:
            yield Left(row.place, verdict.reason, verdict.evidence)
        except RowError as error:
            yield Bad(row.place, error)
        else:
            new[_key(exchange.prompt[-1].content)].append(exchange)
    old = yield from _matching(others, new)
    for question, exchanges in new.items():
        if question in old:
            yield from _longer_than(old[question], exchanges)
        else:
            yield from (Left(exchange.place, "no older answer") for exchange in exchanges)


def _key(instruction: str) -> str:
    return instruction.lower().strip()


def _first_exchange(row: SourceRow, categories: Container[str]) -> New:
    messages = messages_in(row.columns, "conversations")
    if row["category"] not in categories:
        raise NothingToLearn("another category", row["category"])
    start = 1 if messages[0].role == "system" else 0
    if [message.role for message in messages[start : start + 2]] != ["user", "assistant"]:
        raise NothingToLearn("no question and answer first", "conversations")
    answer = messages[start + 1]
    if not answer.content.strip():
        raise NothingToLearn("empty completion", "conversations")
    return New(row.place, messages[: start + 1], answer)


def _matching(others: Iterable[SourceRow], wanted: Container[str]) -> Generator[Left, None, Mapping[str, Old]]:
    """Return one old answer to each wanted question, the one of lowest digest, and yield what is left."""
    matching: dict[str, Old] = {}
    for row in others:
        question, response = _key(row["instruction"]), row["response"]
        if question not in wanted:
            yield Left(row.place, "no newer answer")
        elif not response.strip():
            yield Left(row.place, "empty completion", "response")
        else:
            mine = Old(row.place, row.digest, Message("assistant", response))
            first, second = sorted((matching.get(question, mine), mine), key=lambda old: old.digest)
            matching[question] = first
            if second is not first:
                yield Left(second.place, "another older answer was taken")
    return matching


def _longer_than(old: Old, exchanges: Iterable[New]) -> Iterator[PreferencePair | Left]:
    """Pair the old answer with each new one that is longer."""
    is_used = False
    for new in exchanges:
        if len(new.answer.content) > len(old.answer.content):
            is_used = True
            yield PreferencePair(new.prompt, (new.answer,), (old.answer,), lineage=(new.place, old.place))
        else:
            yield Left(new.place, "not longer than the older answer")
    if not is_used:
        yield Left(old.place, "no longer newer answer")
