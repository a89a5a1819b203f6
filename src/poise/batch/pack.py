"""Cut rows into groups under a token budget: micro-batches of an optimizer step, or packed rows.

First-fit decreasing: rows from longest to shortest, each into the first group with room. At most 22 % more groups
than the optimum (Dósa 2007, doi:10.1007/978-3-540-74450-4_1), in practice a few per cent.
"""

from collections.abc import Sequence

from poise.batch.row import Row


def pack(rows: Sequence[Row], tokens: int) -> list[list[Row]]:
    """Group rows so that no group holds more than `tokens`, a longer row alone; rows keep their order in a group."""
    by_length = sorted(range(len(rows)), key=lambda index: -rows[index].tokens)
    groups: list[list[int]] = []
    room: list[int] = []
    for index in by_length:
        size = rows[index].tokens
        place = next((group for group, left in enumerate(room) if left >= size), None)
        if place is None:
            groups.append([index])
            room.append(tokens - size)
        else:
            groups[place].append(index)
            room[place] -= size
    return [[rows[index] for index in sorted(group)] for group in groups]


def joined(rows: Sequence[Row]) -> Row:
    """Make one row of several, joining nothing: every root stays a root with positions of its own."""
    segments = []
    for row in rows:
        first = len(segments)
        segments.extend(
            type(segment)(segment.ids, segment.trained, segment.parent + first if segment.parent >= 0 else -1)
            for segment in row.segments
        )
    return Row("+".join(row.id for row in rows), tuple(segments), ", ".join(row.place for row in rows))
