"""Which rows are taken, how often, and for what: by hash of the id, so that one source never reshuffles another.

    drawn     0.91  0.13  0.55  0.02          hash(seed, purpose, id), as a share of all hashes
    sample      .     x     .     x           count 2: the smallest
    repeats     2     3     2     3           times 2.5: the smallest half once more
    split       .     .     .     x           test 0.1, drawn by the hash of the question: the same for all its rows

Nothing here looks at a row's position or at its neighbours: the same ids give the same choice in any order.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from poise.curate.arrow import compute as pc

Seed: TypeAlias = int | str
"""Stages that choose from one another's choice need seeds of their own: `42 select`, `42 sample`."""
Texts: TypeAlias = Sequence[Any] | npt.NDArray[Any] | pa.Array | pa.ChunkedArray
"""Ids or names, None where a row has none."""
Mask: TypeAlias = npt.NDArray[np.bool_]
Direction = Literal["ascending", "descending"]


def hashes(ids: Texts, seed: Seed, purpose: str) -> npt.NDArray[np.uint64]:
    """Hash ids evenly over 64 bits; what is drawn for one purpose says nothing about another."""
    prefix = f"{seed}\x1f{purpose}\x1f".encode()
    blake2b = hashlib.blake2b
    digests = (blake2b(prefix + str(each).encode("utf-8", "surrogatepass"), digest_size=8) for each in _listed(ids))
    return np.frombuffer(b"".join(digest.digest() for digest in digests), dtype="<u8").astype(np.uint64)


def sample(
    ids: Texts, *, seed: Seed, count: int | None = None, fraction: float | None = None, strata: Texts | None = None
) -> Mask:
    """Mark `count` rows, or `fraction` of them; all, where there are fewer.

    With `strata` each keeps its share, rounded so that the shares add up (largest remainder).
    """
    return _sampled(ids, seed, "sample", count, fraction, strata)


def top_by(
    values: npt.NDArray[Any] | pa.Array | pa.ChunkedArray,
    ids: Texts,
    *,
    count: int | None = None,
    fraction: float | None = None,
    groups: Texts | None = None,
    smallest: bool = False,
) -> Mask:
    """Mark the rows of the largest values, so many of each group; of equal values the smallest id goes first.

    A row without a value comes last.
    """
    codes, names = _groups(groups, len(ids))
    sizes = np.bincount(codes, minlength=len(names))
    quotas = np.array([_wanted(int(size), count, fraction) for size in sizes], dtype=np.int64)
    return _first(values, ids, codes, quotas, "ascending" if smallest else "descending")


def repeats(ids: Texts, times: float, seed: Seed) -> npt.NDArray[np.int64]:
    """Return how often each row is written: `times`, and where that is no whole number once more for a share."""
    whole = int(times)
    further = _sampled(ids, seed, "repeat", None, times - whole, None)
    return whole + further.astype(np.int64)


def split(group_keys: Texts, ids: Texts, test: float, seed: Seed) -> Mask:
    """Mark the rows of the test split: all rows of a group are in it, or none.

    Below 1 `test` is a share of the groups, and no row that is added or removed moves another one; only where the share
    would be no group at all, the nearest one is taken. From 1 on it is a number of rows, which the last group may
    exceed. A row without a group key is a group of its own.
    """
    keys = [row_id if key is None else key for key, row_id in zip(_listed(group_keys), _listed(ids), strict=True)]
    if not keys:
        return np.zeros(0, dtype=np.bool_)
    drawn = hashes(keys, seed, "split")
    if test < 1:
        return drawn <= max(np.uint64(int(test * 2**64)), drawn.min())
    in_order, sizes = np.unique(drawn, return_counts=True)
    last = int(np.searchsorted(np.cumsum(sizes), test))
    return drawn <= in_order[min(last, len(in_order) - 1)]


def _sampled(
    ids: Texts, seed: Seed, purpose: str, count: int | None, fraction: float | None, strata: Texts | None
) -> Mask:
    codes, names = _groups(strata, len(ids))
    sizes = np.bincount(codes, minlength=len(names))
    quotas = _shares(sizes, _wanted(len(ids), count, fraction), hashes(names, seed, f"{purpose} strata"))
    return _first(hashes(ids, seed, purpose), ids, codes, quotas, "ascending")


def _wanted(rows: int, count: int | None, fraction: float | None) -> int:
    if (count is None) == (fraction is None):
        raise ValueError("one of count and fraction says how many rows are wanted")
    return min(rows, count) if count is not None else min(rows, int(rows * (fraction or 0.0) + 0.5))


def _shares(sizes: npt.NDArray[np.int64], wanted: int, drawn: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Divide `wanted` in proportion to sizes; of equal remainders the smaller hash goes first, not the first name."""
    products = sizes.astype(np.int64) * wanted
    shares, remainders = np.divmod(products, max(1, int(sizes.sum())))
    order = np.lexsort((drawn, -remainders))
    shares[order[: wanted - int(shares.sum())]] += 1
    return shares


def _first(
    values: Any, ids: Texts, codes: npt.NDArray[np.int64], quotas: npt.NDArray[np.int64], way: Direction
) -> Mask:
    """Mark the first rows of each group in the order of their values, then of their ids."""
    table = pa.table({"group": pa.array(codes), "value": _array(values), "id": pa.array(_listed(ids), pa.string())})
    keys = [("group", "ascending"), ("value", way), ("id", "ascending")]
    order = pc.sort_indices(table, sort_keys=keys).to_numpy()
    placed = codes[order]
    place = np.arange(len(order)) - np.searchsorted(placed, np.arange(len(quotas)))[placed]
    mask = np.zeros(len(order), dtype=np.bool_)
    mask[order] = place < quotas[placed]
    return mask


def _groups(names: Texts | None, rows: int) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Number the groups; one, where there are no names."""
    if names is None:
        return np.zeros(rows, dtype=np.int64), [""]
    encoded = pa.array(_listed(names), pa.string()).dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _array(values: Any) -> Any:
    return values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)


def _listed(values: Any) -> Sequence[Any]:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.to_pylist()
    return values.tolist() if isinstance(values, np.ndarray) else values
