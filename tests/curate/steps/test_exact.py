"""Exact duplicates: who loses to whom, against a plain loop."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.curate.steps.exact import losers

keys = st.sampled_from([b"p", b"q", b"r"])


@settings(deadline=None)
@given(st.lists(keys, max_size=8).flatmap(lambda held: st.tuples(st.just(held), st.permutations(range(len(held))))))
def test_the_smallest_rank_of_each_key_wins(rows: tuple[list[bytes], list[int]]) -> None:
    held, ranks = rows
    best = {key: min(rank for each, rank in zip(held, ranks, strict=True) if each == key) for key in held}
    expected = {f"row {rank}": f"row {best[key]}" for key, rank in zip(held, ranks, strict=True) if rank != best[key]}
    ids = [f"row {rank}" for rank in ranks]
    table = pa.table({"id": ids, "rank": [str(rank) for rank in ranks], "key": pa.array(held, pa.binary())})
    lost, kept = losers(table.cast(pa.schema([("id", pa.string()), ("rank", pa.string()), ("key", pa.binary())])))
    assert dict(zip(lost.to_pylist(), kept.to_pylist(), strict=True)) == expected
