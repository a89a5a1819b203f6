"""Sequences with common beginnings - few-shot context, question, answer - laid out so that each is computed once.

    sequences        c c c q q a x       segments   [c c c] [q q] [a]
                     c c c q q b y                                [b]
                     c c c r r a z                          [r r a]

The last token of a sequence is only ever predicted, so it is no part of the batch, and answers of one token need no
segment of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from poise.batch.batch import Batch, Layout

LEAST_SAVED = 16
"""Tokens that a segment of its own must save; shorter common beginnings cost more in attention than they spare."""
WIDTH = 4
"""Bytes of a token in a key; big-endian, so that keys sort as their tokens do."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A sequence, and of how many of its last tokens the probability is wanted: at least one, fewer than it has."""

    ids: Sequence[int]
    scored: int


def lay_out_together(asked: Sequence[Asked], budget: int) -> Iterator[Batch]:
    """Cut into batches of about `budget` tokens, where little is computed twice.

    A batch's `owners` are indices into `asked`. One sequence longer than the budget is a batch of its own.
    """
    keys = [np.asarray(each.ids[:-1], dtype=f">u{WIDTH}").tobytes() for each in asked]
    order = sorted(range(len(asked)), key=keys.__getitem__)
    paths: list[npt.NDArray[np.int64]] = []
    members: list[list[int]] = []
    waiting: list[int] = []
    for index, after in zip(order, [*order[1:], None], strict=False):  # of nothing there are no pairs
        waiting.append(index)
        if after is None or not keys[after].startswith(keys[index]):
            paths.append(np.frombuffer(keys[index], dtype=f">u{WIDTH}").astype(np.int64))
            members.append(waiting)
            waiting = []
    shared = [0, *(_common(one, other) for one, other in pairwise(paths))]
    for start, end in _cuts(list(map(len, paths)), shared, budget):
        inner = [0, *shared[start + 1 : end]]
        yield _batch(paths[start:end], inner, members[start:end], asked)


def _common(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> int:
    """Count the tokens that two sequences begin with."""
    length = min(len(one), len(other))
    differ = np.flatnonzero(one[:length] != other[:length])
    return int(differ[0]) if len(differ) else length


def _cuts(lengths: Sequence[int], shared: Sequence[int], budget: int) -> Iterator[tuple[int, int]]:
    """Yield runs of paths that fit, at least half full, each ending where the least is computed again."""
    start = 0
    while start < len(lengths):
        total, end, best, least = lengths[start], start + 1, start + 1, float("inf")
        while end < len(lengths) and total + lengths[end] - shared[end] <= budget:
            total += lengths[end] - shared[end]
            end += 1
            again = shared[end] / total if end < len(lengths) else 0.0
            if again <= least or 2 * total < budget:
                best, least = end, again if 2 * total >= budget else float("inf")
        yield start, best
        start = best


def _batch(
    paths: Sequence[npt.NDArray[np.int64]],
    shared: Sequence[int],
    members: Sequence[Sequence[int]],
    asked: Sequence[Asked],
) -> Batch:
    lengths: list[int] = []
    ancestors: list[tuple[int, ...]] = []
    ids: list[npt.NDArray[np.int64]] = []
    positions: list[npt.NDArray[np.int64]] = []
    places: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(paths)
    offset = 0
    work: list[tuple[int, int, int, tuple[int, ...], npt.NDArray[np.int64]]] = [
        (0, len(paths), 0, (), np.zeros(0, np.int64))
    ]
    while work:
        first, last, depth, before, place = work.pop()
        if last - first == 1:
            end, children = len(paths[first]), []
        else:
            end = min(shared[first + 1 : last])
            bounds = [first, *(index for index in range(first + 1, last) if shared[index] == end), last]
            children = list(pairwise(bounds))
        if children and (len(children) - 1) * (end - depth) < LEAST_SAVED:
            work += [(low, high, depth, before, place) for low, high in reversed(children)]
            continue
        length = end - depth
        ids.append(paths[first][depth:end])
        positions.append(np.arange(depth, end))
        place = np.concatenate([place, np.arange(offset, offset + length)])
        ancestors.append(before)
        lengths.append(length)
        offset += length
        here = (*before, len(lengths) - 1)
        if children:
            work += [(low, high, end, here, place) for low, high in reversed(children)]
        else:
            places[first] = place
    return _with_targets(Layout(lengths, ancestors), ids, positions, places, members, asked)


def _with_targets(
    layout: Layout,
    ids: list[npt.NDArray[np.int64]],
    positions: list[npt.NDArray[np.int64]],
    places: Sequence[npt.NDArray[np.int64]],
    members: Sequence[Sequence[int]],
    asked: Sequence[Asked],
) -> Batch:
    """Say which hidden state predicts each wanted token; several sequences may want the same one."""
    predictors: list[npt.NDArray[np.int64]] = []
    targets: list[npt.NDArray[np.int64]] = []
    owners: list[npt.NDArray[np.int64]] = []
    for place, indices in zip(places, members, strict=True):
        for index in indices:
            each = asked[index]
            end = len(each.ids) - 1
            predictors.append(place[end - each.scored : end])
            targets.append(np.asarray(each.ids[-each.scored :], dtype=np.int64))
            owners.append(np.full(each.scored, index))
    none = torch.zeros(0, dtype=torch.int64)
    flat = [torch.from_numpy(np.concatenate(parts)) for parts in (ids, positions, predictors, targets, owners)]
    return Batch((), layout, *flat, chosen=none, rejected=none, labeled=none, desirable=none.bool(), mismatched=none)
