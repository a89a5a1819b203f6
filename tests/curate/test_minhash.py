"""MinHash: which texts become candidates, their exact similarity, and who of the alike is kept."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.curate import minhash
from poise.curate.minhash import (
    candidate_pairs,
    kept_greedily,
    likely,
    picked,
    signatures,
    signatures_in_order,
    text_array,
    verified,
    words,
    words_of_each,
)
from poise.curate.texts import normalised


def every_pair(count: int) -> np.ndarray:
    return np.array(list(combinations(range(count), 2)), np.int64).reshape(-1, 2)


def pairs_of(*texts: str, **keys) -> list[list[int]]:
    return candidate_pairs(signatures(text_array(list(map(words, texts)))), **keys).pairs.tolist()


def greedy(rows: int, *edges: tuple[int, int, float]) -> list[tuple[int, int, float]]:
    pairs = np.array([edge[:2] for edge in edges], np.int64).reshape(-1, 2)
    return kept_greedily(rows, [(pairs, np.array([edge[2] for edge in edges]))])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The\tCAT\n sat ", "the cat sat"),
        ("cafe\u0301", "caf\u00e9"),
        ("3 + 4 = ?", "3 + 4 = ?"),
        ("--- ?! \u2026", ""),
        ("", ""),
        ("你好 world", "你 好 world"),
    ],
)
def test_words_are_folded_and_kept_with_their_signs(text: str, expected: str) -> None:
    assert words(text) == expected
    assert words(expected) == expected


@given(st.text(st.characters(codec="latin-1"), max_size=20))
def test_words_are_the_form_that_keys_compare(text: str) -> None:
    assert words(text) in ("", normalised(text))


def test_equal_places_of_two_signatures_estimate_the_jaccard_similarity() -> None:
    numbers = list(map(str, range(150)))
    one, other = signatures(text_array([" ".join(numbers[:100]), " ".join(numbers[50:])]), ngram=1, permutations=1024)
    # 50 of 150 words are shared: 1/3, with a standard deviation of sqrt(1/3 * 2/3 / 1024) = 0.0147
    assert abs(float((one == other).mean()) - 1 / 3) < 4 * 0.0147


def test_a_signature_depends_on_its_text_alone() -> None:
    texts = [f"row {number} of some" for number in range(50)]
    whole = signatures(text_array(texts))
    assert (whole[::-1] == signatures(text_array(texts[::-1]))).all()
    assert (signatures(text_array(texts).slice(7, 2)) == whole[7:9]).all()
    assert (signatures(text_array(texts), seed=2) != whole).any()


def test_texts_without_words_are_in_no_pair() -> None:
    assert pairs_of("", "...", "?!", "one word", "", "one word") == [[3, 5]]


def test_a_text_shorter_than_the_ngram_is_like_equal_ones_only() -> None:
    texts = text_array(["yes", "yes please", "yes", "please yes", "yes please do"])
    pairs, similarity = verified(every_pair(5), texts, threshold=0.01)
    assert pairs.tolist() == [[0, 2]] and similarity.tolist() == [1.0]


def test_the_similarity_is_that_of_the_sets_of_ngrams() -> None:
    # {abc, bcd, cde} and {abc, bcd, cdx} share 2 of 4
    texts = text_array(["a b c d e", "a b c d x"])
    pairs, similarity = verified(every_pair(2), texts, threshold=0.5)
    assert pairs.tolist() == [[0, 1]] and similarity.tolist() == [0.5]
    assert len(verified(every_pair(2), texts, threshold=0.51)[0]) == 0


def ngrams(text: str, ngram: int) -> set[tuple[str, ...]]:
    split = text.split()
    return {tuple(split[at : at + ngram]) for at in range(max(1, len(split) - ngram + 1))}


word_texts = st.lists(st.sampled_from(["a", "bb", "é", "日", "0"]), min_size=1, max_size=12).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(st.lists(word_texts, min_size=2, max_size=8), st.integers(1, 4), st.booleans())
def test_the_similarity_is_that_of_python_sets(texts: list[str], ngram: int, cut: bool) -> None:
    sizes = {"PART_BYTES": 20, "MATCHED_NGRAMS": 7, "HASHED_BYTES": 9} if cut else {}
    with pytest.MonkeyPatch.context() as constants:
        for name, value in sizes.items():
            constants.setattr(minhash, name, value)
        pairs, similarity = verified(every_pair(len(texts)), text_array(texts), ngram=ngram, threshold=0)
    sets = [ngrams(text, ngram) for text in texts]
    assert similarity.tolist() == [len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs.tolist()]


def test_rows_of_two_groups_are_in_no_pair() -> None:
    same = ["the same five words here"] * 4
    assert pairs_of(*same, groups=np.array([0, 1, 0, 1])) == [[0, 2], [1, 3]]


def test_every_pair_of_a_small_bucket_is_a_candidate() -> None:
    assert pairs_of(*["the same five words here"] * 16) == every_pair(16).tolist()


def test_a_giant_bucket_has_linearly_many_pairs_and_is_told() -> None:
    texts = text_array(["the same five words here"] * 2000)
    found = candidate_pairs(signatures(texts))
    assert len(found.pairs) <= 8 * 2000
    assert found.largest_bucket == 2000 and found.cut_buckets == 32
    losses = kept_greedily(2000, [verified(found.pairs, texts)])
    assert losses == [(row, 0, 1.0) for row in range(1, 2000)]


def test_twins_meet_in_a_bucket_that_is_cut() -> None:
    signed = np.random.default_rng(0).integers(0, 1 << 32, (1000, 128), np.uint32)
    signed[:, :4] = 7
    signed[900] = signed[100]
    signed[900, 6:] += 1  # alike in the six first hashes only
    found = candidate_pairs(signed)
    assert [100, 900] in found.pairs.tolist()
    assert found.largest_bucket == 1000 and found.cut_buckets == 1


def test_nearly_all_texts_with_a_twentieth_of_their_words_edited_are_found() -> None:
    chance = random.Random(0)
    vocabulary = [f"w{number}" for number in range(2000)]
    originals = [chance.choices(vocabulary, k=41) for _ in range(500)]
    copies = [list(original) for original in originals]
    for copy in copies:
        for place in chance.sample(range(41), 2):
            copy[place] = chance.choice(vocabulary)
    texts = text_array([" ".join(text) for text in originals + copies])
    pairs, _ = verified(candidate_pairs(signatures(texts)).pairs, texts)
    found = set(map(tuple, pairs.tolist()))
    assert len(found & {(row, row + 500) for row in range(500)}) >= 490
    assert all(later - earlier == 500 for earlier, later in found)


def test_of_a_pair_one_is_kept() -> None:
    """Keeping a row only if it has no near neighbour would leave D alone."""
    a, twin, _d = 0, 1, 2
    assert greedy(3, (a, twin, 0.9)) == [(twin, a, 0.9)]


def test_the_end_of_a_chain_is_kept() -> None:
    """A is like B and B like C, but C is not like A: as one component C would be lost to a row it is not like."""
    a, b, c = 0, 1, 2
    assert greedy(3, (a, b, 0.6), (b, c, 0.6)) == [(b, a, 0.6)]
    assert greedy(3, (a, b, 0.6), (a, c, 0.6)) == [(b, a, 0.6), (c, a, 0.6)]


def test_a_dropped_row_names_the_most_similar_kept_one_and_of_equals_the_best() -> None:
    assert greedy(4, (0, 3, 0.6), (1, 3, 0.8), (2, 3, 0.8)) == [(3, 1, 0.8)]


def graphs() -> st.SearchStrategy[tuple[int, list[tuple[int, int, float]]]]:
    def edges(rows: int):
        one = st.tuples(st.sampled_from(list(combinations(range(rows), 2))), st.sampled_from([0.5, 0.7, 0.9]))
        return st.tuples(st.just(rows), st.lists(one, unique_by=lambda each: each[0]))

    return st.integers(2, 9).flatmap(edges).map(lambda drawn: (drawn[0], [(*pair, s) for pair, s in drawn[1]]))


@settings(deadline=None)
@given(graphs(), st.randoms())
def test_what_is_dropped_has_a_kept_row_and_what_is_kept_has_none(graph, chance) -> None:
    rows, edges = graph
    losses = greedy(rows, *edges)
    kept = set(range(rows)) - {dropped for dropped, _, _ in losses}
    assert not any(one in kept and other in kept for one, other, _ in edges)
    assert all(other in kept and other < dropped and (other, dropped, s) in edges for dropped, other, s in losses)
    shuffled = chance.sample(edges, len(edges))
    assert greedy(rows, *shuffled) == losses


@settings(deadline=None)
@given(graphs())
def test_blocks_decide_as_one(graph) -> None:
    rows, edges = graph
    blocks = [[edge for edge in edges if edge[1] == row] for row in range(rows)]
    arrays = [
        (np.array([edge[:2] for edge in block], np.int64).reshape(-1, 2), np.array([edge[2] for edge in block]))
        for block in blocks
    ]
    assert kept_greedily(rows, arrays) == greedy(rows, *edges)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(max_codepoint=0x17F), max_size=12), max_size=8))
def test_the_words_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    assert words_of_each(texts) == list(map(words, texts))


def test_rows_of_a_column_in_pieces_are_picked_in_any_order() -> None:
    pieces = [text_array(["a", "b"]), text_array([]), text_array(["c", "d", "e"])]
    assert picked(pieces, np.array([3, 0, 4, 0])).to_pylist() == ["d", "a", "e", "a"]
    assert picked([], np.array([], np.int64)).to_pylist() == []


def test_signatures_are_put_in_the_order_that_is_asked_for() -> None:
    texts = text_array(["a b c d", "e f g h", "i j k l"])
    order = np.array([2, 0, 1])
    assert (signatures_in_order([texts[:1], texts[1:]], order) == signatures(texts)[order]).all()


def test_pairs_whose_signatures_agree_too_seldom_are_not_compared() -> None:
    signed = np.zeros((4, 128), np.uint32)
    signed[1, 64:] = 1  # agrees with the first in half of the places
    signed[2, 42:] = 2  # in 42 of 128: 0.5 - 4 sqrt(0.25 / 128) of them is 41.4
    signed[3, 41:] = 3
    pairs = np.array([[0, 1], [0, 2], [0, 3]], np.int64)
    assert likely(pairs, signed, 0.5).tolist() == [[0, 1], [0, 2]]
    assert likely(pairs[:0], signed, 0.5).shape == (0, 2)
