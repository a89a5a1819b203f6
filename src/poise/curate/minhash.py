"""Near-duplicate texts by MinHash (Broder 1997, doi:10.1109/SEQUEN.1997.666900), every pair verified, the best kept.

    text ──words──> "a b c d" ──signatures──> (rows, 128) ──candidate_pairs──> pairs with an equal band
         ──likely──> pairs whose signatures agree nearly often enough
         ──verified──> pairs with Jaccard >= threshold ──kept_greedily──> (dropped, kept, similarity)

Rows stand in rank order, the best first: of two rows the one with the smaller index is kept. What is decided depends
on texts and their order alone. Bands that miss few pairs also find many that are unlike, so every pair is compared
n-gram by n-gram.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from poise import progress
from poise.curate.texts import normalised

Texts = Any
"""A pyarrow array of text, as `text_array` makes it."""
Pairs = NDArray[np.int64]
"""Rows (pairs, 2), the smaller index first."""
Similarities = NDArray[np.float64]
Block = tuple[Pairs, Similarities]
Hashes = NDArray[np.uint64]

HASH_FUNCTION = "xxhash3_64"
EMPTY = np.uint32(0xFFFFFFFF)
"""What the smallest of no hashes is: the signature of a text without words."""
LETTER_OR_DIGIT = re.compile(r"[^\W_]")
UNSPACED = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
"""Signs of the scripts that put no space between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters."""
BETWEEN = "\0"
"""Between texts that are folded together."""
FOLDED = bytes(
    ord(" ") if chr(byte).isspace() else ord(chr(byte).lower()) if byte < 128 else byte for byte in range(256)
)
"""What becomes of each byte of ASCII."""

ALL_PAIRS_ROWS = 16
"""In a bucket of so many rows all pairs are candidates; in a larger one no row has more than in these."""
ANCHORS = 4
NEIGHBOURS = 4
LIKELY_DEVIATIONS = 4.0
"""How far below the threshold signatures may agree, in standard deviations of that share at the threshold."""
ESTIMATED_PAIRS = 1 << 16
FOREST_COLUMNS = 8
PENDING_PAIRS = 1 << 24
READ_TEXTS = 1 << 12
SIGNED_ROWS = 1 << 14
PART_BYTES = 1 << 27
"""Of text whose n-grams are in memory at once, twice: 128 MB of English make 0.3 GB of n-grams."""
MATCHED_NGRAMS = 1 << 20
HASHED_BYTES = 1 << 18

MIX = tuple(np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""The odd constants of SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195)."""


@dataclass(frozen=True)
class Candidates:
    """Pairs to verify, and how unequal the buckets were."""

    pairs: Pairs
    """Distinct, sorted."""
    largest_bucket: int
    """Rows in the fullest bucket of any band."""
    cut_buckets: int
    """Buckets of which not all pairs are here."""


def words(text: str) -> str:
    """Return the words of a text with one space between them, or nothing where there is no letter or digit in it.

    Signs stay with their words, for `3 + 4` is not `3 * 4`. A sign of a script without spaces is a word.
    """
    folded = normalised(text)
    if not folded.isascii():
        folded = " ".join(UNSPACED.sub(r" \1 ", folded).split())
    return _said(folded)


def words_of_each(texts: Sequence[str]) -> list[str]:
    """Return the words of many texts; those of ASCII alone are folded as one run of bytes, in a third of the time."""
    found = [text if _is_plain(text) else words(text) for text in texts]
    plain = [row for row, text in enumerate(texts) if _is_plain(text)]
    folded = _single_spaced(BETWEEN.join([texts[row] for row in plain]).encode().translate(FOLDED)).decode()
    for row, text in zip(plain, folded.split(BETWEEN), strict=bool(plain)):
        found[row] = _said(text.strip(" "))
    return found


def _said(folded: str) -> str:
    return folded if folded[:1].isalnum() or LETTER_OR_DIGIT.search(folded) else ""


def _single_spaced(text: bytes) -> bytes:
    is_space = np.frombuffer(text, np.uint8) == ord(" ")
    again = is_space[1:] & is_space[:-1]
    return np.delete(np.frombuffer(text, np.uint8), np.flatnonzero(again)).tobytes() if again.any() else text


def _is_plain(text: str) -> bool:
    return text.isascii() and BETWEEN not in text


def text_array(texts: Any) -> Texts:
    """Make one contiguous array of a list or a column of texts; a column in one piece is not copied."""
    pieces = text_arrays(texts)
    return pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces) if pieces else pa.array([], pa.large_string())


def text_arrays(texts: Any) -> list[Texts]:
    """Make arrays of a list or a column of texts; the pieces of a column are not copied."""
    if not isinstance(texts, pa.Array | pa.ChunkedArray):
        return [pa.array(texts, pa.large_string())]
    column = texts.cast(pa.large_string())
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def picked(texts: Sequence[Texts], rows: NDArray[np.int64]) -> Texts:
    """Return some rows of a column in pieces as one array, in the order of `rows`."""
    order = np.argsort(rows, kind="stable")
    places = np.empty(len(rows), np.int64)
    places[order] = np.arange(len(rows))
    starts = np.cumsum([0, *map(len, texts)])
    parts = np.split(rows[order], np.searchsorted(rows[order], starts[1:-1]))
    found = [piece.take(pa.array(part - start)) for piece, part, start in zip(texts, parts, starts, strict=False)]
    whole = pa.concat_arrays(found) if found else pa.array([], pa.large_string())
    return whole.take(pa.array(places))


def each_text(texts: Texts) -> Iterator[str]:
    """Yield texts, a few at a time out of their array."""
    for start in range(0, len(texts), READ_TEXTS):
        yield from texts.slice(start, READ_TEXTS).to_pylist()


def byte_offsets(texts: Texts) -> NDArray[np.int64]:
    """Return where each text starts in the array's bytes, and where the last one ends."""
    if not len(texts):
        return np.zeros(1, np.int64)
    return np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset)


def signatures(texts: Texts, *, ngram: int = 3, permutations: int = 128, seed: int = 1) -> NDArray[np.uint32]:
    """Sign word texts: (texts, permutations), the smallest hash of a text's n-grams under each permutation.

    A text of fewer words than `ngram` is one n-gram: its words alone would make `yes please` a copy of `yes`.
    """
    os.environ.setdefault("DO_NOT_TRACK", "true")
    from daft import Series

    signed = Series.from_arrow(texts).minhash(permutations, ngram, seed, HASH_FUNCTION).to_arrow()
    return np.asarray(signed.flatten()).reshape(-1, permutations)


def signatures_in_order(
    texts: Sequence[Texts], order: NDArray[np.int64], *, permutations: int = 128, **keys: Any
) -> NDArray[np.uint32]:
    """Sign the rows of a column in pieces and put the signatures in `order`, which the texts need not be in."""
    found = np.empty((len(order), permutations), np.uint32)
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    batches = (piece.slice(start, SIGNED_ROWS) for piece in texts for start in range(0, len(piece), SIGNED_ROWS))
    with progress.stage("sign", len(order)) as shown:
        for batch in batches:
            now, places = places[: len(batch)], places[len(batch) :]
            found[now] = signatures(batch, permutations=permutations, **keys)
            shown.advance(shown.done + len(batch))
    return found


def candidate_pairs(
    signed: NDArray[np.uint32], *, bands: int = 32, rows: int = 4, groups: NDArray[np.int64] | None = None
) -> Candidates:
    """Return the rows of one group whose signatures agree in a band of `rows`; texts without words are in no pair.

    In a bucket of more than ALL_PAIRS_ROWS a row is paired with the best few and with those whose signature goes on
    most like its own (LSH forest: Bawa, Condie, Ganesan 2005), so the work stays linear in the rows.
    """
    count = len(signed)
    bits = np.uint64(max(1, (count - 1).bit_length()))
    with_words = np.flatnonzero((signed[:, :rows] != EMPTY).any(axis=1))
    pending: list[NDArray[np.int64]] = []
    largest = cut = 0
    for band in range(bands):
        hashes = _band_hashes(signed, band * rows, rows, groups)[with_words]
        members, sizes = _buckets((hashes >> bits << bits) | with_words.astype(np.uint64), bits)
        largest = max(largest, int(sizes.max(initial=0)))
        cut += int((sizes > ALL_PAIRS_ROWS).sum())
        pending += [_packed(lower, upper, count) for lower, upper in _paired(members, sizes, signed, (band + 1) * rows)]
        if sum(map(len, pending)) > PENDING_PAIRS:
            pending = [_distinct(pending)]
    packed = _distinct(pending)
    return Candidates(np.column_stack(np.divmod(packed, max(1, count))), largest, cut)


def likely(pairs: Pairs, signed: NDArray[np.uint32], threshold: float) -> Pairs:
    """Return the pairs whose signatures agree nearly as often as texts of a Jaccard similarity of `threshold` do.

    The share of equal places is an estimate of it. Of pairs right at the threshold, 3 in 100,000 are lost; with 128
    places and a threshold of 0.5 most of what is less than 0.3 alike needs no comparison of texts.
    """
    least = threshold - LIKELY_DEVIATIONS * math.sqrt(threshold * (1 - threshold) / signed.shape[1])
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(pairs), ESTIMATED_PAIRS):
        block = pairs[start : start + ESTIMATED_PAIRS]
        equal = np.count_nonzero(signed[block[:, 0]] == signed[block[:, 1]], axis=1)
        found.append(block[equal >= least * signed.shape[1]])
    return np.concatenate(found)


def verified(pairs: Pairs, texts: Texts, *, ngram: int = 3, threshold: float = 0.5) -> Block:
    """Return the pairs of word texts whose n-grams have a Jaccard similarity of at least `threshold`, and it."""
    rows = np.unique(pairs)
    part = np.cumsum(np.diff(byte_offsets(texts))[rows]) // PART_BYTES
    places = np.searchsorted(rows, pairs)
    similarity = np.empty(len(pairs))
    with progress.stage("compare pairs", len(pairs)) as shown:
        for one in np.unique(part):
            of_one = _ngram_sets(texts.take(pa.array(rows[part == one])), ngram)
            for other in np.unique(part[places[part[places[:, 0]] == one, 1]]):
                of_other = of_one if other == one else _ngram_sets(texts.take(pa.array(rows[part == other])), ngram)
                here = np.flatnonzero((part[places] == (one, other)).all(axis=1))
                within = places[here] - np.searchsorted(part, (one, other))
                similarity[here] = _jaccard(of_one, of_other, within)
                shown.advance(shown.done + len(here))
    alike = similarity >= threshold
    return pairs[alike], similarity[alike]


def kept_greedily(rows: int, blocks: Iterable[Block]) -> list[tuple[int, int, float]]:
    """Return (dropped, kept, similarity): from the best row on, a row is dropped if a kept one is among its pairs.

    So no two kept rows are a pair, and every dropped row names the most similar of the kept rows before it. All pairs
    of a row with smaller ones stand in one block, and blocks go up in these rows.
    """
    is_kept = np.ones(rows, np.bool_)
    found: list[tuple[int, int, float]] = []
    for pairs, similarity in blocks:
        open_pairs = is_kept[pairs[:, 0]]
        pairs, similarity = pairs[open_pairs], similarity[open_pairs]
        order = np.lexsort((pairs[:, 0], -similarity, pairs[:, 1]))
        lost: set[int] = set()
        for better, worse, alike in zip(*pairs[order].T.tolist(), similarity[order].tolist(), strict=True):
            if worse not in lost and better not in lost:
                lost.add(worse)
                found.append((worse, better, alike))
        is_kept[list(lost)] = False
    return found


def _band_hashes(signed: NDArray[np.uint32], first: int, rows: int, groups: NDArray[np.int64] | None) -> Hashes:
    """Hash `rows` columns of every signature from `first` on, and its group."""
    band = np.ascontiguousarray(signed[:, first : first + rows].T)  # a signature is read once, not once a column
    hashes = np.full(len(signed), first, np.uint64)
    if groups is not None:
        hashes ^= groups.astype(np.uint64) << np.uint64(32)
    for column in band:
        hashes ^= column
        hashes *= MIX[0]
        hashes ^= hashes >> np.uint64(29)
    return hashes * MIX[1]


def _buckets(keys: Hashes, bits: np.uint64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that share a bucket, bucket by bucket and in their order, and the size of each bucket.

    A key is a hash with the row in its lowest `bits`, so that one sort brings both in order.
    """
    keys.sort()
    bucket = keys >> bits
    same = np.zeros(len(keys) + 1, np.bool_)  # as the one before
    same[1:-1] = bucket[1:] == bucket[:-1]
    shares = same[:-1] | same[1:]
    members = (keys[shares] & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    starts = np.flatnonzero(~same[:-1][shares])
    return members, np.diff(starts, append=len(members))


def _paired(
    members: NDArray[np.int64], sizes: NDArray[np.int64], signed: NDArray[np.uint32], after: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the pairs of buckets, as two columns."""
    bucket = np.repeat(np.arange(len(sizes)), sizes)
    small = np.repeat(sizes <= ALL_PAIRS_ROWS, sizes)
    yield from _near(members[small], bucket[small], ALL_PAIRS_ROWS - 1)
    if not small.all():
        large, bucket = members[~small], bucket[~small]
        first = np.searchsorted(bucket, bucket)
        for anchor in range(ANCHORS):
            behind = np.arange(len(large)) > first + anchor
            yield large[first[behind] + anchor], large[behind]
        columns = [(after + column) % signed.shape[1] for column in range(FOREST_COLUMNS)]
        order = np.lexsort((large, *signed[np.ix_(large, columns[::-1])].T, bucket))
        yield from _near(large[order], bucket, NEIGHBOURS)


def _near(
    members: NDArray[np.int64], bucket: NDArray[np.int64], reach: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pair every member with the next `reach` of its bucket."""
    for step in range(1, reach + 1):
        same = bucket[step:] == bucket[:-step]
        if not same.any():
            return
        yield members[:-step][same], members[step:][same]


def _packed(one: NDArray[np.int64], other: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.minimum(one, other) * count + np.maximum(one, other)


def _distinct(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    whole = np.concatenate([np.empty(0, np.int64), *parts])
    whole.sort()
    return whole[np.append(True, whole[1:] != whole[:-1])[: len(whole)]]


def _jaccard(of_one: csr_array, of_other: csr_array, places: Pairs) -> Similarities:
    """Return the Jaccard similarity of sets and others, a few pairs at a time."""
    sizes = np.diff(of_one.indptr)[places[:, 0]] + np.diff(of_other.indptr)[places[:, 1]]
    span = np.cumsum(sizes) // MATCHED_NGRAMS
    shared = [np.empty(0, np.int64)]
    for block in np.split(places, np.flatnonzero(np.diff(span)) + 1):
        shared.append(np.diff(of_one[block[:, 0]].multiply(of_other[block[:, 1]]).indptr))
    found = np.concatenate(shared)
    return found / np.maximum(sizes - found, 1)


def _ngram_sets(texts: Texts, ngram: int) -> csr_array:
    """Return the set of every text as a row whose columns are n-grams, hashed to 63 bits."""
    offsets = byte_offsets(texts)
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    hashes, counts = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
    start = 0
    while start < len(texts):
        end = max(start + 1, int(np.searchsorted(offsets, offsets[start] + HASHED_BYTES, side="right")) - 1)
        part = offsets[start : end + 1] - offsets[start]
        found, owner = _ngrams(data[offsets[start] : offsets[end]], part, ngram)
        hashes.append(found)
        counts.append(np.bincount(owner, minlength=end - start))
        start = end
    columns = (np.concatenate(hashes) >> np.uint64(1)).astype(np.int64)
    parts = (np.ones(len(columns), np.bool_), columns, np.cumsum(np.concatenate(counts)))
    sets = csr_array(parts, shape=(len(texts), np.iinfo(np.int64).max))
    sets.sum_duplicates()
    return sets


def _ngrams(data: NDArray[np.uint8], offsets: NDArray[np.int64], ngram: int) -> tuple[Hashes, NDArray[np.int64]]:
    """Hash the n-grams of word texts that stand one after another in `data`; also which text each is of."""
    is_start = np.zeros(len(data), np.bool_)
    is_start[1:] = data[:-1] == ord(" ")
    firsts = offsets[:-1][offsets[:-1] < offsets[1:]]
    follows_space = is_start.copy()
    follows_space[firsts] = False
    is_start[firsts] = True
    starts = np.flatnonzero(is_start)
    ends = np.append(starts[1:] - follows_space[starts[1:]], len(data))[: len(starts)]
    hashed = _word_hashes(data, starts, ends)
    counts = np.diff(np.searchsorted(starts, offsets))
    owner, end = np.repeat(np.arange(len(counts)), counts), np.repeat(np.cumsum(counts), counts)
    index = np.arange(len(starts))
    grams = hashed.copy()
    for step in range(1, ngram):
        inside = index + step < end
        grams[inside] = grams[inside] * MIX[1] + hashed[index[inside] + step]
    whole = (index + ngram <= end) | (index == end - np.repeat(counts, counts))
    return _mixed(grams[whole]), owner[whole]


def _word_hashes(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """Hash words, sum of byte times power of an odd number modulo 2^64, all by one running sum over the bytes."""
    powers, inverses = _powers(1 << max(1, len(data)).bit_length())
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * powers[: len(data)], out=sums[1:])
    return _mixed((sums[ends] - sums[starts]) * inverses[starts])


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Return MIX[2] and its inverse modulo 2^64 to the powers 0, 1, … count - 1."""
    inverse = np.uint64(pow(int(cast(int, MIX[2])), -1, 1 << 64))
    both = [np.full(count, base, np.uint64) for base in (MIX[2], inverse)]
    for powers in both:
        powers[0] = 1
        np.cumprod(powers, out=powers)
    return both[0], both[1]


def _mixed(hashes: Hashes) -> Hashes:
    """Spread every bit over all bits, as SplitMix64 ends."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * MIX[1]
    hashes = (hashes ^ (hashes >> np.uint64(27))) * MIX[2]
    return hashes ^ (hashes >> np.uint64(31))
