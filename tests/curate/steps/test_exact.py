"""Exact duplicates: who loses to whom, against a plain loop."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.curate.steps.exact import losers

keys = st.sampled_from([b"p" * 16, b"p" * 8 + b"q" * 8, b"q" * 16])
"""The first two have one half in common."""


@settings(deadline=None)
@given(st.lists(keys, max_size=8).flatmap(lambda held: st.tuples(st.just(held), st.permutations(range(len(held))))))
def test_the_smallest_rank_of_each_key_wins(rows: tuple[list[bytes], list[int]]) -> None:
    held, ranks = rows
    best = {key: min(rank for each, rank in zip(held, ranks, strict=True) if each == key) for key in held}
    expected = {f"row {rank}": f"row {best[key]}" for key, rank in zip(held, ranks, strict=True) if rank != best[key]}
    columns = pa.array([f"97 0000 row {rank}" for rank in ranks], pa.string()), pa.array(held, pa.binary(16))
    lost, kept = losers(pa.table(columns, names=["rank", "key"]))
    assert dict(zip(lost.to_pylist(), kept.to_pylist(), strict=True)) == expected
