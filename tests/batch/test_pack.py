"""Packing loses nothing, splits nothing and keeps the budget."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.batch.batch import make_batch
from poise.batch.pack import joined, pack
from poise.batch.row import Row, Segment


def segment(tokens: int, parent: int = -1, first: int = 0) -> Segment:
    return Segment(np.arange(first, first + tokens, dtype=np.int32), np.ones(tokens, dtype=bool), parent)


def row_of(tokens: int, name: str = "") -> Row:
    return Row(name or str(tokens), (segment(tokens),))


def packed(lengths: list[int], budget: int) -> list[list[int]]:
    return [[row.tokens for row in group] for group in pack([row_of(length) for length in lengths], budget)]


@pytest.mark.parametrize(
    ("lengths", "budget", "groups"),
    [
        ([], 10, []),
        ([4], 10, [[4]]),
        ([10, 10], 10, [[10], [10]]),
        # longest first: 7, then 6; 4 does not fit beside 7 but beside 6; 3 fits beside 7
        ([3, 7, 4, 6], 10, [[3, 7], [4, 6]]),
        # 2 goes to the first group with room, although the second would be filled exactly
        ([7, 8, 2], 10, [[8, 2], [7]]),
        # 6, 5, 5, 4: the first group is 6 + 4, the second 5 + 5
        ([5, 4, 6, 5], 10, [[4, 6], [5, 5]]),
    ],
)
def test_rows_go_to_the_first_group_with_room_the_longest_first(
    lengths: list[int], budget: int, groups: list[list[int]]
) -> None:
    assert packed(lengths, budget) == groups


def test_a_row_longer_than_the_budget_is_alone() -> None:
    assert packed([2, 25, 8], 10) == [[25], [2, 8]]


def test_rows_of_one_group_keep_their_order() -> None:
    rows = [row_of(2, "a"), row_of(3, "b"), row_of(1, "c"), row_of(4, "d")]
    assert [[row.id for row in group] for group in pack(rows, 10)] == [["a", "b", "c", "d"]]


def test_packing_keeps_a_pair_together() -> None:
    """A pair is one row: 5 shared prompt tokens and answers of 4 and 3 count 12, and its segments stay side by side."""
    pair = Row("pair", (segment(5), segment(4, 0), segment(3, 0)))
    groups = pack([pair, row_of(8), pair], 12)
    assert [[row.tokens for row in group] for group in groups] == [[12], [12], [8]]
    assert all(group[0] is pair for group in groups[:2])


def test_many_rows_are_packed_in_the_time_it_takes_to_sort_them() -> None:
    """A scan over all groups for every row took 6.4 s here and four times that for twice the rows."""
    started = time.monotonic()
    rows = [row_of(1 + index * 7919 % 1500) for index in range(40_000)]
    groups = pack(rows, 2048)
    assert sum(len(group) for group in groups) == 40_000
    assert len(groups) < 1.01 * sum(row.tokens for row in rows) / 2048
    assert time.monotonic() - started < 5


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 40))
def test_packing_loses_nothing_splits_nothing_and_keeps_the_budget(lengths: list[int], budget: int) -> None:
    rows = [row_of(length, str(index)) for index, length in enumerate(lengths)]
    groups = pack(rows, budget)
    assert sorted(int(row.id) for group in groups for row in group) == list(range(len(rows)))
    for group in groups:
        assert sum(row.tokens for row in group) <= budget or len(group) == 1
        assert [int(row.id) for row in group] == sorted(int(row.id) for row in group)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 40))
def test_packing_is_first_fit_decreasing(lengths: list[int], budget: int) -> None:
    """The definition, word for word: a scan over the groups for each row."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        fitting = (group for group in groups if sum(lengths[i] for i in group) + lengths[index] <= budget)
        place = next(fitting, None)
        if place is None:
            groups.append([index])
        else:
            place.append(index)
    rows = [row_of(length, str(index)) for index, length in enumerate(lengths)]
    assert [[int(row.id) for row in group] for group in pack(rows, budget)] == [sorted(group) for group in groups]


# Joined --------------------------------------------------------------------------------------------------------------


def test_joined_rows_stay_roots_with_parents_of_their_own() -> None:
    first = Row("a", (segment(2), segment(1, 0)), "a.jsonl:1")
    second = Row("b", (segment(3, first=50), segment(2, 0, 60), segment(1, 1, 70)), "b.jsonl:7")
    row = joined([first, second])
    assert [each.parent for each in row.segments] == [-1, 0, -1, 2, 3]
    assert (row.id, row.place) == ("a+b", "a.jsonl:1, b.jsonl:7")


def test_a_joined_row_is_the_batch_of_its_rows() -> None:
    rows = [row_of(3), Row("tree", (segment(2), segment(4, 0), segment(1, 0))), row_of(1)]
    apart, together = make_batch(rows), make_batch([joined(rows)])
    assert together.layout.ancestors == apart.layout.ancestors
    for name in ("input_ids", "position_ids", "predictors", "targets", "owners"):
        assert getattr(together, name).tolist() == getattr(apart, name).tolist()
