"""OASST1's ranked answers: the answers to one message, in the order that volunteers gave them (arXiv:2304.07327).

https://huggingface.co/datasets/OpenAssistant/oasst1

    {"message_id": "b", "parent_id": "a", "text": "Hello!", "role": "assistant", "lang": "en", "rank": 0, …}
    {"message_id": "c", "parent_id": "a", "text": "What?", "role": "assistant", "lang": "en", "rank": 1, …}
"""

from collections.abc import Iterable, Iterator

from poise.catalog import oasst
from poise.catalog.oasst import Children, Node
from poise.examples import RankedAnswers
from poise.sources.dataset import Outcome, SourceRow

ABOUT = oasst.ABOUT


def read_all(rows: Iterable[SourceRow], *, language: str | None = None) -> Iterator[Outcome]:
    """Compare ranked answers to one message, in one `lang` or in all, behind the path from the root to them."""
    children = yield from oasst.grow(rows, language)
    used: set[str] = set()
    for path in _paths(children):
        ranked = _ranked_answers(path, children)
        if ranked is not None:
            used.update(ranked.lineage)
            yield ranked
    yield from oasst.left_over(children, used, "in no comparison of ranked answers")


def _paths(children: Children) -> Iterator[tuple[Node, ...]]:
    """Yield every path down from a root."""
    waiting: list[tuple[Node, ...]] = [(root,) for root in children.get(None, ())]
    while waiting:
        path = waiting.pop()
        yield path
        waiting.extend((*path, node) for node in children.get(path[-1].name, ()))


def _ranked_answers(path: tuple[Node, ...], children: Children) -> RankedAnswers | None:
    """Return the ranked answers to the end of a path, unless fewer than two ranks are among them."""
    below = children.get(path[-1].name, ())
    answers = [node for node in below if node.message.role == "assistant" and node.rank is not None]
    places = {rank: place for place, rank in enumerate(dict.fromkeys(node.rank for node in answers))}
    if path[-1].message.role != "user" or len(places) < 2:
        return None
    return RankedAnswers(
        tuple(node.message for node in path),
        tuple((node.message,) for node in answers),
        tuple(places[node.rank] for node in answers),
        lineage=tuple(node.place for node in (*path, *answers)),
    )
