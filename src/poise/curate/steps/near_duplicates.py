"""Near-duplicates: of texts that are alike, the one of the most trusted source is kept.

    - near_duplicates                                      word 3-grams, Jaccard >= 0.5, each pair verified
    - near_duplicates: {on: prompt, threshold: 0.7}
    - near_duplicates: {method: embeddings, model: sentence-transformers/all-MiniLM-L6-v2, threshold: 0.95}

Rows for different training are not compared: a conversation is no copy of a preference pair. With minhash two rows must
also be alike in each part by itself - every paragraph of the question, and the answer - for questions about one passage
are alike as a whole. A row is dropped only if one that is kept is as near as the threshold, and names it.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from poise.cache import cache_folder
from poise.curate.arrow import compute as pc
from poise.curate.encoder import Encoder, folder_digest, load_encoder
from poise.curate.marks import marks
from poise.curate.minhash import (
    HASH_FUNCTION,
    Block,
    Texts,
    candidate_pairs,
    each_text,
    kept_greedily,
    likely,
    picked,
    signatures_in_order,
    text_arrays,
    verified,
    words,
    words_of_each,
)
from poise.curate.neighbours import neighbours
from poise.curate.rows import Decisions, Rows, drops_of, example_of, loaded
from poise.curate.step import Step
from poise.curate.texts import answers, prompt_of, whole_text
from poise.curate.vectors import embedded
from poise.examples import Conversation, Document, Example

REASON = "near-duplicate"
JACCARD = 0.5
SEED = 1
MINHASH_KEYS = ("ngram", "bands", "rows")
PARAGRAPHS = re.compile(r"\n\s*\n")


class NearDuplicates(Step):
    """What is compared, how, and how near is too near."""

    method: Literal["minhash", "embeddings"] = "minhash"
    """`minhash`: shared n-grams of words, every pair verified. `embeddings`: cosine of a model's sentence vectors,
    which also finds rewordings, and misses more of the light edits."""
    on: Literal["all", "prompt", "answer"] = "all"
    """`all`: what is asked and the answer that is wanted. A text without letters or digits is no duplicate."""
    threshold: float | None = Field(default=None, gt=0, le=1)
    """Jaccard similarity of the n-grams, 0.5 by default; or the cosine, which has no default: it is the model's."""
    ngram: int = Field(default=3, ge=1)
    """Words in a row that count as one; 3 with 32 bands of 4 found 99 % of texts with 2-8 % of their words edited."""
    bands: int = Field(default=32, ge=1)
    """A pair is verified if one of so many parts of its MinHash signatures is equal; more find more, for more work."""
    rows: int = Field(default=4, ge=1)
    """Hashes in a band; more find less that is unlike."""
    model: str | None = Field(default=None, min_length=1)
    """A sentence-transformers model, by Hub id or folder."""
    revision: str | None = None
    """Branch, tag or commit of the model."""
    guard: bool | None = None
    """Whether texts with different numbers or code are kept however alike they are; by default with embeddings, which
    put 85 % of texts with every number changed above 0.95."""

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> "NearDuplicates":
        if self.method == "minhash":
            strange = [key for key in ("model", "revision") if getattr(self, key) is not None]
        else:
            strange = [key for key in MINHASH_KEYS if key in self.model_fields_set]
            if self.model is None or self.threshold is None:
                raise ValueError("method: embeddings needs a model and its threshold; no threshold fits two models")
        if strange:
            raise ValueError(f"{strange[0]} means nothing to method: {self.method}; leave it out")
        return self

    def fingerprint(self) -> str | None:
        """Hash the model's weights where they lie in a folder: other weights are another space."""
        return folder_digest(self.model)

    def decide(self, rows: Rows) -> Decisions:
        """Compare the rows that are left."""
        found = rows.mapped(_Compared(self), ("kind", "content"), "text", "id", "task", "rank")
        order = pc.sort_indices(found["rank"]).to_numpy().astype(np.int64)
        ids, tasks = (found[name].combine_chunks() for name in ("id", "task"))
        return self._between(
            ids, text_arrays(found["text"]), order, tasks, partial(self._parts, rows), cache=cache_folder() / "vectors"
        )

    def _parts(self, rows: Rows, ids: list[str]) -> dict[str, list[str]]:
        """Return the parts of some rows."""
        wanted = rows.engine.only(rows.frame("kind", "content"), pa.table({"id": ids}))
        frame = rows.engine.mapped(wanted, _Parts(self.on), ("kind", "content"), "parts")
        found = rows.engine.collect(frame.select("id", "parts"))
        return dict(zip(found["id"].to_pylist(), map(json.loads, found["parts"].to_pylist()), strict=True))

    def compared(self, texts: Sequence[str]) -> list[str]:
        """Return what of texts is compared."""
        return words_of_each(texts) if self.method == "minhash" else list(texts)

    def among(
        self,
        ids: Sequence[str],
        texts: Any,
        ranks: Sequence[Any],
        kinds: Sequence[str] | None = None,
        *,
        parts: Callable[[list[str]], Mapping[str, Sequence[str]]] | None = None,
        encoder: Encoder | None = None,
        cache: Path | None = None,
    ) -> Decisions:
        """Decide between `texts`, a list or a column, as `compared` makes them.

        The smallest rank of several is kept, of equal ranks the smallest id; texts of two kinds are not compared.
        `parts` gives the parts of rows by id, where texts must be alike in every one.
        """
        order = np.array(sorted(range(len(ids)), key=lambda row: (ranks[row], ids[row])), np.int64)
        tasks = pa.array(kinds or [""] * len(ids), pa.string())
        return self._between(pa.array(ids, pa.string()), text_arrays(texts), order, tasks, parts, encoder, cache)

    def _between(
        self,
        ids: pa.Array,
        texts: list[Texts],
        order: NDArray[np.int64],
        tasks: pa.Array,
        parts: Callable[[list[str]], Mapping[str, Sequence[str]]] | None,
        encoder: Encoder | None = None,
        cache: Path | None = None,
    ) -> Decisions:
        """Decide between rows, of which `order` lists the best first."""
        groups = tasks.dictionary_encode().indices.to_numpy().astype(np.int64)[order]
        if self.method == "minhash":
            whole = pc.equal(tasks, Document.kind).to_numpy(zero_copy_only=False)[order]
            in_parts = None if parts is None else partial(_alike_in_parts, ids=ids, order=order, whole=whole, of=parts)
            losses, facts = self._by_words(texts, order, groups, in_parts)
            name, digits = "Jaccard", 2
        else:
            losses, facts = self._by_vectors(picked(texts, order), groups, encoder, cache)
            name, digits = "cosine", 3
        lost, kept, similarities = list(zip(*losses, strict=True)) or ((), (), ())
        lost_ids, kept_ids = (ids.take(pa.array(order[list(rows)])).to_pylist() for rows in (lost, kept))
        told = (f"{name} {similarity:.{digits}f}" for similarity in similarities)
        drops = drops_of(zip(lost_ids, repeat(REASON), told, kept_ids))
        return Decisions(drops, {"method": self.method, "on": self.on, "guard": self._guards} | facts)

    @property
    def _guards(self) -> bool:
        return self.method == "embeddings" if self.guard is None else self.guard

    def _by_words(
        self,
        texts: list[Texts],
        order: NDArray[np.int64],
        groups: NDArray[np.int64],
        in_parts: Callable[[Block, float], Block] | None,
    ) -> tuple[list[tuple[int, int, float]], dict[str, Any]]:
        threshold = self.threshold or JACCARD
        signed = signatures_in_order(texts, order, ngram=self.ngram, permutations=self.bands * self.rows, seed=SEED)
        found = candidate_pairs(signed, bands=self.bands, rows=self.rows, groups=groups)
        compared = likely(found.pairs, signed, threshold)
        del signed
        rows, pairs = np.unique(compared, return_inverse=True)
        involved = picked(texts, order[rows])
        places, similarity = verified(pairs, involved, ngram=self.ngram, threshold=threshold)
        near = len(places)
        block = next(self._guarded([(places, similarity)], involved))
        block = rows[block[0]], block[1]
        if in_parts is not None and near:
            block = in_parts(block, threshold)
        losses = kept_greedily(len(order), [block])
        facts: dict[str, Any] = {key: getattr(self, key) for key in MINHASH_KEYS}
        facts |= {"threshold": threshold, "hash": HASH_FUNCTION, "seed": SEED, "candidate pairs": len(found.pairs)}
        facts |= {"compared pairs": len(compared), "verified pairs": near, "unlike in a part": near - len(block[0])}
        facts |= {"largest bucket": found.largest_bucket}
        return losses, facts | {"buckets not compared in full": found.cut_buckets}

    def _by_vectors(
        self, texts: Texts, groups: NDArray[np.int64], encoder: Encoder | None, cache: Path | None
    ) -> tuple[list[tuple[int, int, float]], dict[str, Any]]:
        assert self.model is not None and self.threshold is not None
        encoder = encoder or load_encoder(self.model, self.revision)
        comparable = np.array([row for row, text in enumerate(each_text(texts)) if words(text)], np.int64)
        texts = texts.take(pa.array(comparable))
        vectors, which = embedded(texts, encoder, cache)
        first, equal = _equal(which, groups[comparable])
        of_first = which[first]
        vectors = vectors if len(of_first) == len(vectors) else vectors[of_first]
        blocks, facts = neighbours(vectors, self.threshold)
        blocks = self._guarded(_within(blocks, groups[comparable[first]]), texts.take(pa.array(first)))
        losses = _with_equals(kept_greedily(len(first), blocks), first, equal)
        facts = {"threshold": self.threshold, **encoder.space, **facts}
        return [(int(comparable[lost]), int(comparable[kept]), near) for lost, kept, near in losses], facts

    def _guarded(self, blocks: Iterable[Block], texts: Texts) -> Iterator[Block]:
        """Take out the pairs that differ in numbers or code."""
        for pairs, similarity in blocks:
            if self._guards:
                involved = np.unique(pairs)
                held = dict(zip(involved.tolist(), map(marks, each_text(texts.take(pa.array(involved)))), strict=True))
                same = np.array([held[one] == held[other] for one, other in pairs.tolist()], np.bool_)
                pairs, similarity = pairs[same], similarity[same]
            yield pairs, similarity


class _Compared:
    """Rows of columns -> the texts to compare; picklable, to run in other processes."""

    def __init__(self, step: NearDuplicates) -> None:
        self.step = step

    def __call__(self, kinds: list[str], contents: list[str]) -> list[str | None]:
        texts = [_text(kind, content, self.step.on) for kind, content in zip(kinds, contents, strict=True)]
        return [*self.step.compared(texts)]


@dataclass(frozen=True)
class _Parts:
    """Rows of columns -> the parts of each as JSON; picklable, to run in other processes."""

    on: Literal["all", "prompt", "answer"]

    def __call__(self, kinds: list[str], contents: list[str]) -> list[str | None]:
        return [json.dumps(parts_of(example, self.on)) for example in map(example_of, kinds, contents)]


def parts_of(example: Example, on: Literal["all", "prompt", "answer"] = "all") -> list[str]:
    """Return what must be alike by itself: what came before, each paragraph of the last question, the answer.

    Two questions about one long passage are alike as a whole, and so are one template's rows.
    """
    if on == "answer" or isinstance(example, Document):
        return []
    *before, last = [message.content for message in prompt_of(example)] or [""]
    paragraphs = [words(each) for each in PARAGRAPHS.split(last)]
    answer = [words("\n".join(answers(example)))] if on == "all" else []
    return [words("\n".join(before)), *filter(None, paragraphs), *answer]


def _alike_in_parts(
    block: Block,
    threshold: float,
    *,
    ids: pa.Array,
    order: NDArray[np.int64],
    whole: NDArray[np.bool_],
    of: Callable[[list[str]], Mapping[str, Sequence[str]]],
) -> Block:
    """Take out the pairs of which some part has less than `threshold` of its words in common.

    Rows that are `whole` have no parts. `of` gives the parts of ids.
    """
    pairs, similarity = block
    alike = whole[pairs[:, 0]]
    rows = np.unique(pairs[~alike])
    if not len(rows):
        return block
    names = ids.take(pa.array(order[rows])).to_pylist()
    held = of(names)
    of_row = dict(zip(rows.tolist(), (held[name] for name in names), strict=True))
    alike[~alike] = [_alike(of_row[one], of_row[other], threshold) for one, other in pairs[~alike].tolist()]
    return pairs[alike], similarity[alike]


def _alike(one: Sequence[str], other: Sequence[str], threshold: float) -> bool:
    """Compare part by part, the last first, which differ most; texts of other numbers of parts were compared whole."""
    if len(one) != len(other):
        return True
    sets = ((set(a.split()), set(b.split())) for a, b in zip(reversed(one), reversed(other), strict=True) if a != b)
    return all(len(a & b) >= threshold * len(a | b) for a, b in sets)


def _text(kind: str, content: str, on: Literal["all", "prompt", "answer"]) -> str:
    if on == "all" and kind in (Document.kind, Conversation.kind):  # as `whole_text`, with no Example made
        fields = loaded(content)
        return fields["text"] if kind == Document.kind else "\n".join([each["content"] for each in fields["messages"]])
    example = example_of(kind, content)
    if on == "all":
        return whole_text(example)
    if on == "prompt":
        return "\n".join(message.content for message in prompt_of(example))
    return "\n".join(answers(example))


def _within(blocks: Iterable[Block], groups: NDArray[np.int64]) -> Iterator[Block]:
    for pairs, similarity in blocks:
        same = groups[pairs[:, 0]] == groups[pairs[:, 1]]
        yield pairs[same], similarity[same]


def _equal(which: NDArray[np.int64], groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of every text of a group, and for each row which of these is its own."""
    code = which * (int(groups.max(initial=0)) + 1) + groups
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return np.sort(first), place[inverse]


def _with_equals(
    losses: list[tuple[int, int, float]], first: NDArray[np.int64], equal: NDArray[np.int64]
) -> Iterator[tuple[int, int, float]]:
    """Yield what is lost of all rows: one equal to a dropped row goes with it, one equal to a kept row to that."""
    lost_to = {lost: (kept, near) for lost, kept, near in losses}
    for row, own in enumerate(equal.tolist()):
        if own in lost_to or first[own] != row:
            kept, near = lost_to.get(own, (own, 1.0))
            yield row, int(first[kept]), near
