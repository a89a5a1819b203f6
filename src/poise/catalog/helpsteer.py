"""HelpSteer: several answers to a prompt, five attributes of each rated 0 to 4 (Wang et al. 2023, arXiv:2311.09528).

https://huggingface.co/datasets/nvidia/HelpSteer

    {"prompt": "Name a prime.", "response": "7 is one.", "helpfulness": 4, "correctness": 4, "coherence": 4,
     "complexity": 1, "verbosity": 1}
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from poise.examples import Message, PreferencePair
from poise.sources.dataset import About, Left, Outcome, SourceRow

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
FULLY_CORRECT = 4

ABOUT = About(
    hub="nvidia/HelpSteer",
    columns={"prompt": str, "response": str, **dict.fromkeys(ATTRIBUTES, int)},
    licence="cc-by-4.0",
)


@dataclass(frozen=True)
class Response:
    """An answer and what it scored."""

    place: str
    digest: str
    text: str
    score: int
    """Sum of the five attributes."""
    is_correct: bool


def read_all(rows: Iterable[SourceRow]) -> Iterator[Outcome]:
    """Pair the best of the fully correct answers to a prompt with one that does not outscore it."""
    asked: dict[str, list[Response]] = defaultdict(list)
    for row in rows:
        if row["response"].strip():
            asked[row["prompt"]].append(_response(row))
        else:
            yield Left(row.place, "empty completion", "response")
    for prompt, responses in asked.items():
        yield from _pair(prompt, responses)


def _response(row: SourceRow) -> Response:
    score = sum(row[attribute] for attribute in ATTRIBUTES)
    return Response(row.place, row.digest, row["response"], score, row["correctness"] == FULLY_CORRECT)


def _pair(prompt: str, responses: Sequence[Response]) -> Iterator[PreferencePair | Left]:
    chosen = _chosen(responses)
    if chosen is None:
        yield from (Left(each.place, "no answer is fully correct") for each in responses)
        return
    rejected = _rejected(responses, chosen)
    if rejected is None:
        yield from (Left(each.place, "no worse answer") for each in responses)
        return
    yield PreferencePair(
        (Message("user", prompt),),
        (Message("assistant", chosen.text),),
        (Message("assistant", rejected.text),),
        lineage=(chosen.place, rejected.place),
    )
    others = (each for each in responses if each not in (chosen, rejected))
    yield from (Left(each.place, "other answers were taken") for each in others)


def _chosen(responses: Iterable[Response]) -> Response | None:
    correct = (each for each in responses if each.is_correct)
    return min(correct, key=lambda each: (-each.score, each.digest), default=None)


def _rejected(responses: Iterable[Response], chosen: Response) -> Response | None:
    """Return an answer that is not fully correct, else a correct one of a lower score; neither outscores the chosen."""
    worse = (
        each
        for each in responses
        if each.text != chosen.text and (each.score, each.is_correct) < (chosen.score, chosen.is_correct)
    )
    return min(worse, key=lambda each: (each.is_correct, each.digest), default=None)
