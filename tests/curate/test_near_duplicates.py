"""The step near_duplicates: who is dropped, to whom, and that it depends on nothing but texts and ranks."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from poise.curate.encoder import Encoder
from poise.curate.engine import Engine
from poise.curate.rows import DROPS, ROWS, Decisions, Rows, row_of
from poise.curate.steps.near_duplicates import NearDuplicates
from poise.errors import DataError
from poise.examples import Conversation, Document, Message, PreferencePair

A = "the quick brown fox jumps over the lazy dog near the old stone bridge"
A_EDITED = "the quick brown fox jumps over the lazy dog near the old wooden bridge"
D = "a completely different text about boats which sail on the sea at night"


def encoder(vectors: dict[str, tuple[float, ...]], dtype: type = np.float32) -> Encoder:
    return Encoder(lambda texts: np.array([vectors[text] for text in texts], dtype), {"model": "m", "dtype": "float32"})


def by_vectors(**keys: Any) -> NearDuplicates:
    return NearDuplicates(method="embeddings", model="m", **{"threshold": 0.95, **keys})


def decide(
    step: NearDuplicates, texts: Sequence[str], ranks: Sequence[int] | None = None, **keys: Any
) -> dict[str, tuple[str, str]]:
    """Return what is dropped with its evidence and the row it lost to; rows are called a, b, c …"""
    ids = [chr(ord("a") + row) for row in range(len(texts))]
    found = step.among(ids, step.compared(texts), ranks or [0] * len(texts), **keys)
    assert set(found.drops["reason"].to_pylist()) <= {"near-duplicate"}
    return {drop["id"]: (drop["evidence"], drop["other"]) for drop in found.drops.to_pylist()}


def test_of_two_alike_one_is_kept() -> None:
    # 12 3-grams each; the edit changes the last 2: 10 of 14 are shared
    assert decide(NearDuplicates(), [A, A_EDITED, D]) == {"b": ("Jaccard 0.71", "a")}


def test_the_better_rank_is_kept_and_of_equal_ranks_the_smaller_id() -> None:
    assert decide(NearDuplicates(), [A, A_EDITED, D], [2, 1, 3]) == {"a": ("Jaccard 0.71", "b")}
    assert decide(NearDuplicates(), [A, A, A]) == {"b": ("Jaccard 1.00", "a"), "c": ("Jaccard 1.00", "a")}


def test_the_end_of_a_chain_is_kept() -> None:
    first, second, third = (" ".join(map(str, range(start, start + 30))) for start in (0, 8, 16))
    # 28 3-grams each, of which neighbours share 20 of 36 and the ends 12 of 44
    assert decide(NearDuplicates(), [first, second, third]) == {"b": ("Jaccard 0.56", "a")}
    assert decide(NearDuplicates(), [first, second, third], [1, 0, 2]) == {
        "a": ("Jaccard 0.56", "b"),
        "c": ("Jaccard 0.56", "b"),
    }


def test_a_threshold_and_an_ngram_of_its_own() -> None:
    assert decide(NearDuplicates(threshold=0.8), [A, A_EDITED]) == {}
    # 12 different words each: 11 of 13 are shared
    assert decide(NearDuplicates(threshold=0.8, ngram=1), [A, A_EDITED]) == {"b": ("Jaccard 0.85", "a")}


def test_texts_without_words_are_kept() -> None:
    assert decide(NearDuplicates(), ["...", "?!", "", "...", "\n"]) == {}
    step = by_vectors(guard=False)
    assert decide(step, ["...", "...", "x"], encoder=encoder({"x": (1, 0)})) == {}


def test_rows_of_two_kinds_are_not_compared() -> None:
    kinds = ["conversation", "preference_pair", "conversation"]
    assert decide(NearDuplicates(), [A, A, A], kinds=kinds) == {"c": ("Jaccard 1.00", "a")}
    vectors = encoder({A: (1, 0)})
    assert decide(by_vectors(), [A, A, A], kinds=kinds, encoder=vectors) == {"c": ("cosine 1.000", "a")}


small_texts = st.lists(st.sampled_from(["p", "q", "r", "s"]), min_size=0, max_size=7).map(" ".join)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(small_texts, st.integers(0, 2)), min_size=1, max_size=10), st.randoms())
def test_shuffled_rows_are_decided_alike(rows: list[tuple[str, int]], chance: random.Random) -> None:
    named = [(f"row {number}", text, rank) for number, (text, rank) in enumerate(rows)]
    step = NearDuplicates()
    found = [
        step.among(*zip(*((name, *step.compared([text]), rank) for name, text, rank in order), strict=True)).drops
        for order in (named, chance.sample(named, len(named)))
    ]
    assert found[0].equals(found[1])


def test_every_neighbour_counts_not_the_nearest_alone() -> None:
    """Nine equal rows hide the tenth from a search for the nearest few; the tenth is still as near as the threshold."""
    vectors = encoder({"x": (1, 0), "y": (0.96, 0.28)})
    found = decide(by_vectors(), ["x"] * 9 + ["y"], [1] * 9 + [0], encoder=vectors)
    assert found == {chr(ord("a") + row): ("cosine 0.960", "j") for row in range(9)}


def test_numbers_and_code_are_guarded_with_embeddings_and_at_wish_with_minhash() -> None:
    sums = [f"Tom has {number} apples in his old red bag and gives away two of them today" for number in (3, 3, 4)]
    same = encoder(dict.fromkeys(sums, (1, 0)))
    assert decide(by_vectors(), sums, encoder=same) == {"b": ("cosine 1.000", "a")}
    assert set(decide(by_vectors(guard=False), sums, encoder=same)) == {"b", "c"}
    assert set(decide(NearDuplicates(), sums)) == {"b", "c"}
    assert set(decide(NearDuplicates(guard=True), sums)) == {"b"}


def test_int8_vectors_are_refused() -> None:
    with pytest.raises(DataError, match="int8"):
        decide(by_vectors(), ["x", "y"], encoder=encoder({"x": (1, 0), "y": (0, 1)}, np.int8))


def test_what_a_threshold_belongs_to_is_told() -> None:
    facts = by_vectors().among(["a", "b"], ["x", "x"], [0, 0], encoder=encoder({"x": (1, 0)})).facts
    assert facts == {
        "method": "embeddings", "on": "all", "guard": True, "threshold": 0.95, "model": "m", "dtype": "float32",
        "index": "exact",
    }  # fmt: skip
    facts = NearDuplicates().among(["a", "b"], [A, A], [0, 0]).facts
    assert facts == {
        "method": "minhash", "on": "all", "guard": False, "threshold": 0.5, "ngram": 3, "bands": 32, "rows": 4,
        "hash": "xxhash3_64", "seed": 1, "candidate pairs": 1, "compared pairs": 1, "verified pairs": 1,
        "largest bucket": 2, "buckets not compared in full": 0, "unlike in a part": 0,
    }  # fmt: skip


@pytest.mark.parametrize("step", [NearDuplicates(), by_vectors()])
def test_no_rows_are_no_decisions(step: NearDuplicates) -> None:
    assert step.among([], [], [], [], encoder=encoder({})).drops.num_rows == 0


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"method": "embeddings", "model": "m"}, "needs a model and its threshold"),
        ({"method": "embeddings", "threshold": 0.9}, "needs a model and its threshold"),
        ({"method": "embeddings", "model": "m", "threshold": 0.9, "bands": 8}, "bands means nothing"),
        ({"model": "m"}, "model means nothing"),
        ({"threshold": 0}, "greater than 0"),
        ({"bandz": 8}, "Extra inputs"),
    ],
)
def test_keys_that_mean_nothing_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        NearDuplicates(**keys)


def chat(asked: str, answer: str) -> Conversation:
    return Conversation((Message("user", asked), Message("assistant", answer)), source="s")


@pytest.fixture
def stored(tmp_path: Path):
    """Write Examples as the load stage does, with falling confidence, and see them as a step does."""

    def write(*examples: Any) -> Rows:
        rows = [
            row_of(example, "s", Counter(), confidence=9 - number, order=0, stratum=None, case_matters=False)
            for number, example in enumerate(examples)
        ]
        file = tmp_path / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=ROWS), file)
        return Rows(Engine(), [file], DROPS.empty_table(), len(rows))

    return write


def lost(found: Decisions) -> list[tuple[str, str]]:
    return [(drop["id"], drop["other"]) for drop in found.drops.to_pylist()]


@pytest.mark.parametrize(("on", "dropped"), [("all", {1}), ("prompt", {1, 2}), ("answer", {1})])
def test_stored_rows_are_compared_by_what_is_asked_for(stored, on: str, dropped: set[int]) -> None:
    pair = PreferencePair((Message("user", A),), (Message("assistant", D),), (Message("assistant", "No."),), source="s")
    examples = [chat(A, D), chat(A_EDITED, D + " today"), chat(A, "Yes, it is so."), pair, Document("...", source="s")]
    rows = stored(*examples)
    ids = [f"s:{example.id}" for example in examples]
    assert lost(NearDuplicates(on=on).decide(rows)) == sorted((ids[row], ids[0]) for row in dropped)


PASSAGE = " ".join(f"word{number}" for number in range(120))


def passage_rows(chat: Any) -> list[dict[str, Any]]:
    return [
        chat(f"Read the passage.\n\n{PASSAGE}\n\nTrue or false - is the harbour older than its lighthouse?", "true"),
        chat(f"Read the passage.\n\n{PASSAGE}\n\nTrue or false - did anyone swim across in winter?", "true"),
        chat(f"{PASSAGE}\n\nWho built the tower?", "Ann Lee"),
        chat(f"{PASSAGE}\n\nWho built the tower?  ", "Tom Day"),
    ]


def test_two_questions_about_one_passage_are_no_near_duplicates(build: Any, chat: Any) -> None:
    """As a whole they have more than nine in ten of their n-grams in common."""
    built = build({"a": passage_rows(chat)[:2]}, steps=["near_duplicates"])
    assert len(built.rows()) == 2


def test_one_question_with_another_answer_is_no_near_duplicate_but_its_prompt_is(build: Any, chat: Any) -> None:
    rows = {"a": passage_rows(chat)[2:]}
    assert len(build(rows, steps=["near_duplicates"]).rows()) == 2
    assert len(build(rows, steps=[{"near_duplicates": {"on": "prompt"}}]).rows()) == 1


def test_a_light_edit_in_every_part_is_a_near_duplicate(build: Any, chat: Any) -> None:
    edited = PASSAGE.replace("word7 ", "word ").replace("word80 ", "word ")
    question, answer = "Who of them all built the old tower by the sea?", "It was Ann Lee who built it in one summer."
    rows = [chat(f"{PASSAGE}\n\n{question}", answer), chat(f"{edited}\n\n{question.replace('old', 'tall')}", answer)]
    built = build({"a": rows}, steps=["near_duplicates"])
    assert [drop["reason"] for drop in built.ledger()] == ["near-duplicate"]
