"""OASST1: trees of messages that volunteers wrote and ranked; the best-ranked path of each (arXiv:2304.07327).

https://huggingface.co/datasets/OpenAssistant/oasst1

    {"message_id": "b", "parent_id": "a", "text": "Hello!", "role": "assistant", "lang": "en", "rank": 0,
     "deleted": false, "message_tree_id": "a", "tree_state": "ready_for_export", …}
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass

from poise.examples import Conversation, Message
from poise.sources.dataset import About, Bad, Left, Outcome, SourceRow
from poise.sources.refusal import NothingToLearn, RowError
from poise.sources.roles import role_of

ABOUT = About(
    hub="OpenAssistant/oasst1",
    columns={
        "message_id": str,
        "parent_id": (str, None),
        "text": str,
        "role": str,
        "lang": str,
        "rank": (int, None),
        "deleted": bool,
        "tree_state": str,
    },
    licence="apache-2.0",
)


@dataclass(frozen=True)
class Node:
    """A message of a tree; `rank` is its place among the answers beside it, 0 the best, None where nobody ranked it."""

    place: str
    digest: str
    name: str
    parent: str | None
    message: Message
    rank: int | None

    @property
    def order(self) -> tuple[bool, int, str]:
        """The best-ranked first, the unranked last."""
        return self.rank is None, self.rank or 0, self.digest


Children = Mapping[str | None, list[Node]]
"""The nodes below each message_id, in order; the roots below None."""


def read_all(rows: Iterable[SourceRow], *, language: str | None = None) -> Iterator[Outcome]:
    """Follow the best-ranked answers of each tree, in one `lang` or in all, down to the last one."""
    children = yield from grow(rows, language)
    used: set[str] = set()
    for root in children.get(None, ()):
        path = _best_path(root, children)
        if len(path) > 1:
            used.update(node.place for node in path)
            messages, lineage = tuple(node.message for node in path), tuple(node.place for node in path)
            yield Conversation(messages, lineage=lineage)
    yield from left_over(children, used, "not on a best-ranked path")


def grow(rows: Iterable[SourceRow], language: str | None) -> Generator[Left | Bad, None, Children]:
    """Return the trees, and yield the rows that are in none of them."""
    nodes: dict[str, Node] = {}
    for row in rows:
        try:
            node = _node(row, language)
        except NothingToLearn as verdict:
            yield Left(row.place, verdict.reason, verdict.evidence)
        except RowError as error:
            yield Bad(row.place, error)
        else:
            kept, other = sorted((nodes.get(node.name, node), node), key=lambda each: each.digest)
            nodes[node.name] = kept
            if other is not kept:
                yield Left(other.place, "another row has its message_id")
    children: dict[str | None, list[Node]] = defaultdict(list)
    for node in sorted(nodes.values(), key=lambda each: each.order):
        children[node.parent].append(node)
    return children


def left_over(children: Children, used: set[str], reason: str) -> Iterator[Left]:
    """Yield the nodes whose places are not among the used."""
    nodes = (node for siblings in children.values() for node in siblings)
    return (Left(node.place, reason) for node in nodes if node.place not in used)


def _node(row: SourceRow, language: str | None) -> Node:
    message = Message(role_of(row["role"], "role"), row["text"])
    if language is not None and row["lang"] != language:
        raise NothingToLearn("another language", row["lang"])
    if row["tree_state"] != "ready_for_export":
        raise NothingToLearn("unfinished tree", row["tree_state"])
    if row["deleted"]:
        raise NothingToLearn("deleted", "deleted")
    if not message.content.strip():
        raise NothingToLearn("empty text", "text")
    return Node(row.place, row.digest, row["message_id"], row["parent_id"], message, row["rank"])


def _best_path(root: Node, children: Children) -> list[Node]:
    """Go down from the root, past no question that nobody answered."""
    path = [root]
    while following := [node for node in children.get(path[-1].name, ()) if _leads_to_answer(node, children)]:
        path.append(following[0])
    return path


def _leads_to_answer(node: Node, children: Children) -> bool:
    answers = (node, *children.get(node.name, ()))
    return any(each.message.role == "assistant" for each in answers)
