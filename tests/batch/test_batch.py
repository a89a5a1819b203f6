"""The flat layout, against layouts drawn by hand."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.batch.batch import Batch, make_batch, segment_order, unshared
from poise.batch.row import Label, Row, Segment, without_mismatched


def segment(ids: Sequence[int], parent: int = -1, trained: Sequence[int] | bool = True, **marks: Any) -> Segment:
    mask = [trained] * len(ids) if isinstance(trained, bool) else trained
    return Segment(np.array(ids, dtype=np.int32), np.array(mask, dtype=bool), parent, **marks)


def a_pair(prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> Row:
    return Row("pair", (segment(prompt, trained=False), segment(chosen, 0, rank=0), segment(rejected, 0, rank=1)))


DEEP = Row(
    "deep",
    (
        segment([10, 11], trained=False),
        segment([20, 21], parent=0),
        segment([30], parent=1),
        segment([40, 41], parent=1, trained=[0, 1]),
        segment([50], parent=0),
    ),
)
"""10 11 ─┬─ 20 21 ─┬─ 30
         │         └─ 40 41
         └─ 50"""


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """Draw a forest of up to six segments of one to four tokens, each token trained or not."""
    segments: list[Segment] = []
    for index in range(draw(st.integers(1, 6))):
        mask = draw(st.lists(st.booleans(), min_size=1, max_size=4))
        ids = draw(st.lists(st.integers(0, 99), min_size=len(mask), max_size=len(mask)))
        segments.append(segment(ids, draw(st.integers(-1, index - 1)), mask))
    return Row("drawn", tuple(segments))


def path_to(row: Row, index: int) -> list[int]:
    parent = row.segments[index].parent
    return [*(path_to(row, parent) if parent >= 0 else []), index]


# The golden layout ---------------------------------------------------------------------------------------------------


def two_pairs() -> Batch:
    return make_batch([a_pair([1, 2, 3, 4], [11, 12, 13], [21, 22]), a_pair([5, 6], [14, 15, 16], [23, 24, 25, 26])])


def test_two_pairs_lie_side_by_side() -> None:
    """The docstring's picture: p p p p c c c r r, then p p c c c r r r r."""
    batch = two_pairs()
    assert batch.input_ids.tolist() == [1, 2, 3, 4, 11, 12, 13, 21, 22, 5, 6, 14, 15, 16, 23, 24, 25, 26]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 5, 0, 1, 2, 3, 4, 2, 3, 4, 5]
    assert batch.layout.lengths == [4, 3, 2, 2, 3, 4]
    assert batch.layout.ancestors == [(), (0,), (0,), (), (3,), (3,)]


def test_the_first_token_of_an_answer_is_predicted_from_the_last_of_its_prompt() -> None:
    """The first prompt ends at index 3 and the second at 9 + 2 - 1 = 10; within an answer it is the index before."""
    batch = two_pairs()
    assert batch.predictors.tolist() == [3, 4, 5, 3, 7, 10, 11, 12, 10, 14, 15, 16]
    assert batch.targets.tolist() == [11, 12, 13, 21, 22, 14, 15, 16, 23, 24, 25, 26]
    assert batch.owners.tolist() == [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 5]


def test_pairs_are_named_by_their_segments() -> None:
    batch = two_pairs()
    assert (batch.chosen.tolist(), batch.rejected.tolist()) == ([1, 4], [2, 5])


def test_a_pair_after_a_conversation_is_named_by_its_place_in_the_batch() -> None:
    conversation = Row("conversation", (segment([7, 8, 9], trained=[0, 1, 1]),))
    batch = make_batch([conversation, a_pair([1], [2], [3])])
    assert (batch.chosen.tolist(), batch.rejected.tolist()) == ([2], [3])
    assert batch.owners.tolist() == [0, 0, 2, 3]


def test_the_first_token_of_a_sequence_is_never_trained() -> None:
    """Nothing precedes 7, so two of three marked tokens remain, also where the row stands second."""
    row = Row("all", (segment([7, 8, 9]),))
    batch = make_batch([row, row])
    assert batch.targets.tolist() == [8, 9, 8, 9]
    assert batch.predictors.tolist() == [0, 1, 3, 4]


def test_a_deep_tree_keeps_positions_ancestors_and_predictors() -> None:
    """By hand, with flat indices 10:0 11:1 20:2 21:3 30:4 40:5 41:6 50:7; 40 is not trained."""
    batch = make_batch([DEEP])
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 4, 5, 2]
    assert batch.layout.ancestors == [(), (0,), (0, 1), (0, 1), (0,)]
    assert batch.targets.tolist() == [20, 21, 30, 41, 50]
    assert batch.predictors.tolist() == [1, 2, 3, 5, 1]
    assert batch.owners.tolist() == [1, 1, 2, 3, 4]
    assert len(batch.chosen) == 0


def test_a_token_after_an_empty_segment_is_predicted_from_the_ancestor_before_it() -> None:
    """The empty segment has no last token: 3 follows 2, not whatever lies before the empty segment in the batch."""
    row = Row("gap", (segment([1, 2]), segment([9], 0), segment([], 0), segment([3], 2)))
    assert make_batch([row]).predictors.tolist() == [0, 1, 1]
    assert make_batch([row]).targets.tolist() == [2, 9, 3]


def test_a_token_after_an_empty_root_is_not_predicted_from_the_neighbour() -> None:
    row = Row("no prompt", (segment([]), segment([3, 4], 0)))
    batch = make_batch([Row("neighbour", (segment([1, 2]),)), row])
    assert batch.targets.tolist() == [2, 4]
    assert row.trained_tokens == 1


def test_a_batch_without_rows_is_empty() -> None:
    batch = make_batch([])
    assert (batch.tokens, batch.trained_tokens, len(batch.chosen)) == (0, 0, 0)
    assert batch.input_ids.dtype == torch.int64


def test_moving_a_batch_keeps_every_tensor() -> None:
    batch = two_pairs()
    moved = batch.to("cpu")
    for name in ("input_ids", "position_ids", "predictors", "targets", "owners", "chosen", "rejected", "labeled"):
        assert torch.equal(getattr(moved, name), getattr(batch, name))
    assert moved.layout.lengths == batch.layout.lengths


def test_ranked_answers_are_compared_each_with_every_worse_one() -> None:
    """Four answers of ranks 1, 0, 1, 2: two are equal, so five pairs."""
    answers = [segment([20 + index], 0, rank=rank) for index, rank in enumerate((1, 0, 1, 2))]
    row = Row("ranked", (segment([1], trained=False), *answers))
    assert row.pairs == [(1, 4), (2, 1), (2, 3), (2, 4), (3, 4)]
    batch = make_batch([a_pair([1], [2], [3]), row])
    assert batch.chosen.tolist() == [1, 4, 5, 5, 5, 6]
    assert batch.rejected.tolist() == [2, 7, 4, 6, 7, 7]


def test_unpaired_answers_keep_their_labels_and_mismatched_ones_are_apart() -> None:
    def row(label: Label) -> Row:
        answers = (segment([2], 0, label=label), segment([3], 0, label="mismatched"))
        return Row(label, (segment([1], trained=False), *answers))

    rows = [row("desirable"), row("undesirable")]
    batch = make_batch(rows)
    assert (batch.labeled.tolist(), batch.desirable.tolist()) == ([1, 4], [True, False])
    assert batch.mismatched.tolist() == [2, 5]
    lean = make_batch([without_mismatched(row) for row in rows])
    assert (lean.labeled.tolist(), lean.mismatched.tolist(), lean.tokens) == ([1, 3], [], 4)


@given(st.lists(rows(), max_size=4))
def test_values_of_spelled_out_sequences_find_their_segments(drawn: list[Row]) -> None:
    batch = make_batch(drawn)
    sequences = [(row, owners) for each in drawn for row, owners in unshared(each)]
    spelled = make_batch([row for row, _ in sequences])
    assert torch.equal(spelled.targets[segment_order(batch)], batch.targets)


# What attention may see ----------------------------------------------------------------------------------------------


def allowed(queries: int, keys: int, window: int | None) -> list[list[int]]:
    return make_batch([]).layout.mask(queries, keys, window, torch.device("cpu")).int().tolist()


def test_queries_are_the_last_of_their_keys() -> None:
    """Two answer tokens after a prompt of two: the first sees the prompt and itself, the second everything."""
    assert allowed(2, 4, None) == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_window_counts_the_token_itself() -> None:
    """With a window of two a token sees itself and one before it, across the prompt's end too."""
    assert allowed(2, 4, 2) == [[0, 1, 1, 0], [0, 0, 1, 1]]


# Spelled out ---------------------------------------------------------------------------------------------------------


def test_a_pair_is_spelled_out_as_two_sequences() -> None:
    (chosen, chosen_owners), (rejected, rejected_owners) = unshared(a_pair([1, 2], [11, 12], [21]))
    assert chosen.segments[0].ids.tolist() == [1, 2, 11, 12]
    assert chosen.segments[0].trained.tolist() == [False, False, True, True]
    assert rejected.segments[0].ids.tolist() == [1, 2, 21]
    assert (chosen_owners.tolist(), rejected_owners.tolist()) == ([1, 1], [2])


def test_a_shared_trained_token_is_counted_in_the_first_sequence_alone() -> None:
    """20 and 21 are trained and belong to two sequences: 10 11 20 21 30 has them, 10 11 20 21 40 41 does not."""
    spelled = [(row.segments[0].ids.tolist(), owners.tolist()) for row, owners in unshared(DEEP)]
    assert spelled == [
        ([10, 11, 20, 21, 30], [1, 1, 2]),
        ([10, 11, 20, 21, 40, 41], [3]),
        ([10, 11, 50], [4]),
    ]


# Properties ----------------------------------------------------------------------------------------------------------


@given(st.lists(rows(), max_size=4))
def test_a_batch_trains_what_its_rows_say(drawn: list[Row]) -> None:
    batch = make_batch(drawn)
    assert batch.trained_tokens == sum(row.trained_tokens for row in drawn)
    assert batch.tokens == sum(row.tokens for row in drawn)


@given(st.lists(rows(), min_size=1, max_size=4))
def test_every_trained_token_is_predicted_by_the_token_before_it_on_its_own_path(drawn: list[Row]) -> None:
    batch = make_batch(drawn)
    starts = np.cumsum([0, *batch.layout.lengths])
    segment_of = np.repeat(np.arange(len(batch.layout.lengths)), batch.layout.lengths)
    for predictor, target, owner in zip(batch.predictors, batch.targets, batch.owners, strict=True):
        path = [*batch.layout.ancestors[owner], int(owner)]
        flat = np.concatenate([np.arange(starts[step], starts[step + 1]) for step in path])
        followers = {int(before): int(after) for before, after in pairwise(flat)}
        after = followers[int(predictor)]
        assert batch.input_ids[after] == target
        assert segment_of[after] == owner
        assert batch.position_ids[after] == batch.position_ids[predictor] + 1


@given(rows())
def test_spelling_out_a_row_trains_each_of_its_tokens_once(row: Row) -> None:
    spelled = unshared(row)
    leaves = [i for i in range(len(row.segments)) if all(each.parent != i for each in row.segments)]
    for (sequence, _), leaf in zip(spelled, leaves, strict=True):
        expected = [token for step in path_to(row, leaf) for token in row.segments[step].ids]
        assert sequence.segments[0].ids.tolist() == expected
    owners = np.concatenate([owners for _, owners in spelled])
    targets = np.concatenate([sequence.segments[0].ids[sequence.segments[0].trained] for sequence, _ in spelled])
    in_order = np.argsort(owners, kind="stable")
    batch = make_batch([row])
    assert targets[in_order].tolist() == batch.targets.tolist()
    assert owners[in_order].tolist() == batch.owners.tolist()


@given(rows())
def test_a_row_gives_the_same_layout_wherever_it_stands(row: Row) -> None:
    """After a neighbour of three tokens and one segment, indices move by three and segments by one."""
    alone, after = make_batch([row]), make_batch([Row("neighbour", (segment([97, 98, 99], trained=False),)), row])
    assert (alone.predictors + 3).tolist() == after.predictors.tolist()
    assert (alone.owners + 1).tolist() == after.owners.tolist()
    assert alone.position_ids.tolist() == after.position_ids[3:].tolist()
    assert [tuple(step + 1 for step in path) for path in alone.layout.ancestors] == after.layout.ancestors[1:]
