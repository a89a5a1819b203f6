"""Selection: the same rows in any order, and none of them moved by others."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.curate.selection import hashes, repeats, sample, split, top_by

IDS = [f"a:{index}" for index in range(1000)]


def taken(ids, mask) -> set[str]:
    return {row_id for row_id, kept in zip(ids, mask, strict=True) if kept}


def test_a_hash_is_that_of_seed_purpose_and_id() -> None:
    digest = hashlib.blake2b(b"42\x1fsample\x1fa:1", digest_size=8).digest()
    assert hashes(["a:1"], 42, "sample").tolist() == [int.from_bytes(digest, "little")]


def test_ids_may_be_a_list_an_array_or_an_arrow_column() -> None:
    every = [sample(ids, seed=1, count=9) for ids in (IDS, np.array(IDS), pa.array(IDS), pa.chunked_array([IDS]))]
    assert all((each == every[0]).all() for each in every)


def test_a_sample_takes_the_smallest_hashes() -> None:
    order = sorted(IDS, key=lambda row_id: hashes([row_id], 42, "sample")[0])
    assert taken(IDS, sample(IDS, seed=42, count=10)) == set(order[:10])


def test_a_sample_of_more_rows_than_there_are_is_all_of_them() -> None:
    """bagel's range(200000) raised on fewer rows."""
    assert sample(IDS, seed=42, count=200_000).all()
    assert sample([], seed=42, count=200_000).tolist() == []
    assert sample(IDS, seed=42, count=200_000, strata=["x"] * 1000).all()


@pytest.mark.parametrize(("fraction", "rows"), [(1.0, 1000), (0.5, 500), (0.0015, 2), (0.0001, 0)])
def test_a_fraction_is_rounded_to_whole_rows(fraction: float, rows: int) -> None:
    assert sample(IDS, seed=42, fraction=fraction).sum() == rows


def test_a_sample_needs_one_size() -> None:
    for size in ({}, {"count": 1, "fraction": 0.5}):
        with pytest.raises(ValueError, match="one of count and fraction"):
            sample(IDS, seed=42, **size)


def test_another_seed_or_purpose_draws_others() -> None:
    drawn = [taken(IDS, sample(IDS, seed=seed, count=100)) for seed in (1, 2, "1 select")]
    assert all(len(drawn[0] & other) < 40 for other in drawn[1:])  # 10 of 100 are expected
    test = split([None] * 1000, IDS, 0.1, seed=1)
    assert len(taken(IDS, test) & drawn[0]) < 40


def test_strata_keep_their_shares_by_largest_remainder() -> None:
    """10 of 7 + 2 + 1 rows scaled to 4: 2.8, 0.8, 0.4 -> 2, 0, 0 and the two largest remainders."""
    strata = ["x"] * 7 + ["y"] * 2 + ["z"]
    mask = sample(IDS[:10], seed=42, count=4, strata=strata)
    assert [int(mask[:7].sum()), int(mask[7:9].sum()), int(mask[9:].sum())] == [3, 1, 0]


def test_equal_remainders_go_by_hash_and_not_by_name() -> None:
    names = [f"s{index:03d}" for index in range(100)]
    chosen = np.flatnonzero(sample(IDS[:100], seed=42, count=10, strata=names))
    assert len(chosen) == 10
    assert chosen.max() > 50


def test_top_by_takes_the_largest_and_of_equal_ones_the_first_id() -> None:
    ids, values = ["d", "c", "b", "a"], np.array([1, 5, 5, 5])
    assert taken(ids, top_by(values, ids, count=2)) == {"a", "b"}
    assert taken(ids, top_by(values, ids, count=2, smallest=True)) == {"d", "a"}


def test_top_by_counts_in_each_group() -> None:
    ids, values = ["a", "b", "c", "d", "e"], np.array([1, 2, 3, 4, 5])
    groups = ["x", "x", "x", "y", None]
    assert taken(ids, top_by(values, ids, count=1, groups=groups)) == {"c", "d", "e"}
    assert taken(ids, top_by(values, ids, fraction=0.5, groups=groups)) == {"b", "c", "d", "e"}


def test_a_row_without_a_value_comes_last() -> None:
    values = pa.array([None, 1, 2])
    assert taken("abc", top_by(values, list("abc"), count=2)) == {"b", "c"}
    assert taken("abc", top_by(values, list("abc"), count=2, smallest=True)) == {"b", "c"}


@pytest.mark.parametrize(("times", "total"), [(1.0, 1000), (2.5, 2500), (0.25, 250), (3.0, 3000)])
def test_repeats_are_whole_copies_and_a_share_of_one_more(times: float, total: int) -> None:
    copies = repeats(IDS, times, seed=42)
    assert int(copies.sum()) == total
    assert set(copies.tolist()) <= {int(times), int(times) + 1}


def test_a_group_is_on_one_side() -> None:
    keys = [f"q{index % 100}" for index in range(1000)]
    mask = split(keys, IDS, 0.1, seed=42)
    assert 0 < mask.sum() < 300
    assert not taken(keys, mask) & taken(keys, ~mask)


def test_a_group_stays_on_its_side_when_rows_are_added() -> None:
    mask = split(IDS, IDS, 0.1, seed=42)
    more = [f"b:{index}" for index in range(5000)]
    assert (split(more + IDS, more + IDS, 0.1, seed=42)[5000:] == mask).all()


def test_a_count_is_reached_with_whole_groups() -> None:
    keys = [f"q{index // 10}" for index in range(1000)]
    assert split(keys, IDS, 25, seed=42).sum() == 30
    assert split(keys, IDS, 30, seed=42).sum() == 30
    assert split(keys, IDS, 200_000, seed=42).all()
    assert split([], [], 25, seed=42).tolist() == []


def test_a_small_share_is_one_group_at_least() -> None:
    assert split(["x", "x", "y"], ["a", "b", "c"], 1e-9, seed=42).sum() in (1, 2)


def test_rows_without_a_group_are_groups_of_their_own() -> None:
    assert (split([None] * 1000, IDS, 0.1, seed=42) == split(IDS, IDS, 0.1, seed=42)).all()


@given(st.permutations(range(60)), st.integers(0, 70))
def test_the_order_of_rows_changes_nothing(order: list[int], count: int) -> None:
    ids, groups, values = IDS[:60], [f"g{index % 7}" for index in range(60)], np.arange(60) % 5
    mixed = [ids[index] for index in order], [groups[index] for index in order], values[order]
    choices = (
        lambda ids, groups, values: sample(ids, seed=7, count=count, strata=groups),
        lambda ids, groups, values: top_by(values, ids, count=count, groups=groups),
        lambda ids, groups, values: split(groups, ids, 0.3, seed=7),
        lambda ids, groups, values: repeats(ids, 1.5, seed=7) > 1,
    )
    for choose in choices:
        assert taken(ids, choose(ids, groups, values)) == taken(mixed[0], choose(*mixed))
