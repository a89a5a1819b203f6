"""A Batch: the segments of several rows as one flat, padding-free row of tokens.

    rows        [prompt chosen rejected]     [prompt chosen rejected]
    input_ids   p p p p  c c c  r r          p p  c c c  r r r r
    positions   0 1 2 3  4 5 6  4 5          0 1  2 3 4  2 3 4 5

A trained token is predicted from the hidden state before it: in its own segment, or, for a segment's first token, the
last of its parent. `predictors` holds that index, so nothing is shifted and nothing is masked with -100.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poise.batch.logps import Logps
from poise.batch.row import Row


@dataclass(eq=False)
class Layout:
    """Where each segment lies in the flat row and what it continues; the one keyword attention needs."""

    lengths: list[int]
    """Tokens of each segment, in order."""
    ancestors: list[tuple[int, ...]]
    """Segments each one continues, root first; empty for a root."""
    kernel: str = "sdpa"
    """Which kernel attends, by its name in batch/kernels.py."""
    attended: int = 0
    """Times a layer attended within these segments; a layer that never does would mix the rows."""
    _masks: dict[tuple[int, int, int | None, torch.device], Tensor] = field(default_factory=dict)
    _paths: tuple[Tensor, Tensor, Tensor, int, int] | None = None
    _block_masks: dict[int | None, Any] = field(default_factory=dict)

    @cached_property
    def depths(self) -> list[int]:
        """Tokens that stand before each segment in its sequences."""
        return [sum(self.lengths[step] for step in ancestors) for ancestors in self.ancestors]

    def paths(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int, int]:
        """Return (keys, cu_q, cu_k, max_q, max_k): which tokens each segment sees before its own causal rule.

        keys (sum of paths,) int64 lists, segment after segment, the tokens of its ancestors and its own; cu_q and cu_k
        (segments + 1,) int32 are where each segment's queries and keys begin. Segments without tokens are left out.
        """
        if self._paths is None or self._paths[0].device != device:
            self._paths = self._make_paths(device)
        return self._paths

    def _make_paths(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int, int]:
        starts = np.cumsum([0, *self.lengths])
        spans = [np.arange(start, start + length) for start, length in zip(starts[:-1], self.lengths, strict=True)]
        seen = [index for index, length in enumerate(self.lengths) if length]
        keys = [np.concatenate([spans[step] for step in (*self.ancestors[index], index)]) for index in seen]
        queries, sizes = [self.lengths[index] for index in seen], [len(each) for each in keys]
        cu_q, cu_k = (
            torch.tensor([0, *np.cumsum(each)], dtype=torch.int32, device=device) for each in (queries, sizes)
        )
        return _joined(keys).to(device), cu_q, cu_k, max(queries, default=0), max(sizes, default=0)

    def block_mask(self, window: int | None, device: torch.device) -> Any:
        """Return FlexAttention's mask: a token sees its segment's and its ancestors' tokens up to its own position."""
        if window not in self._block_masks:
            from torch.nn.attention.flex_attention import create_block_mask

            lengths = torch.tensor(self.lengths)
            segment = torch.repeat_interleave(torch.arange(len(lengths)), lengths).to(device)
            position = torch.cat([torch.arange(depth, depth + length) for depth, length in self._extents()]).to(device)
            visible = torch.zeros(len(lengths), len(lengths), dtype=torch.bool)
            for index, ancestors in enumerate(self.ancestors):
                visible[index, [*ancestors, index]] = True
            visible = visible.to(device)

            def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
                behind = position[query] - position[key]
                seen = visible[segment[query], segment[key]] & (behind >= 0)
                return seen if window is None else seen & (behind < window)

            tokens = len(segment)
            self._block_masks[window] = create_block_mask(sees, None, None, tokens, tokens, device=str(device))
        return self._block_masks[window]

    def _extents(self) -> list[tuple[int, int]]:
        return list(zip(self.depths, self.lengths, strict=True))

    def mask(self, queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
        """Lower-right causal mask (queries, keys), True where attention is allowed; built once per shape.

        The queries are the last `queries` of `keys` consecutive positions. `window` counts the positions a token sees,
        itself included, as transformers' `sliding_window` does.
        """
        key = (queries, keys, window, device)
        if key not in self._masks:
            allowed = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
            if window is not None:
                allowed = allowed.triu(keys - queries - window + 1)
            self._masks[key] = allowed
        return self._masks[key]


@dataclass(frozen=True, eq=False)
class Batch:
    """Flat tokens of several rows and what the loss needs to know about them."""

    rows: tuple[Row, ...]
    layout: Layout
    input_ids: Tensor
    """(tokens,) int64."""
    position_ids: Tensor
    """(tokens,) int64; a segment continues its parent's positions."""
    predictors: Tensor
    """(trained,) int64: index into the flat row of the hidden state that predicts the token."""
    targets: Tensor
    """(trained,) int64: the trained tokens' ids, in segment order."""
    owners: Tensor
    """(trained,) int64: the segment each trained token belongs to."""
    chosen: Tensor
    """(pairs,) int64: segment of each pair's preferred answer; empty where rows are not pairs."""
    rejected: Tensor
    """(pairs,) int64: segment of each pair's dispreferred answer."""
    labeled: Tensor
    """(answers,) int64: segment of each unpaired answer; empty where rows have none."""
    desirable: Tensor
    """(answers,) bool: whether it is wanted."""
    mismatched: Tensor
    """(mismatched,) int64: segments of other rows' answers, for an estimate of the divergence."""

    @property
    def tokens(self) -> int:
        """Tokens computed."""
        return len(self.input_ids)

    @property
    def trained_tokens(self) -> int:
        """Tokens the loss counts."""
        return len(self.targets)

    def logps(self, values: Tensor, collision: Tensor | None = None) -> Logps:
        """Say whose log-probabilities (trained,) these are."""
        named = {name: getattr(self, name) for name in ("chosen", "rejected", "labeled", "desirable", "mismatched")}
        return Logps(values, self.owners, len(self.layout.lengths), **named, collision=collision)

    def filled(self, multiple: int) -> "Batch":
        """Add a segment of tokens that nobody sees and no loss counts, so that all come to a multiple of `multiple`."""
        missing = -self.tokens % multiple
        if not missing:
            return self
        layout = Layout([*self.layout.lengths, missing], [*self.layout.ancestors, ()])
        more = torch.arange(missing, device=self.input_ids.device)
        ids, positions = torch.cat([self.input_ids, torch.zeros_like(more)]), torch.cat([self.position_ids, more])
        return replace(self, layout=layout, input_ids=ids, position_ids=positions)

    def to(self, device: torch.device | str) -> "Batch":
        """Move the tensors to a device."""
        moved = {name: getattr(self, name).to(device) for name in _TENSORS}
        return Batch(self.rows, Layout(self.layout.lengths, self.layout.ancestors), **moved)


_TENSORS = (
    "input_ids", "position_ids", "predictors", "targets", "owners",
    "chosen", "rejected", "labeled", "desirable", "mismatched",
)  # fmt: skip


def make_batch(rows: Sequence[Row]) -> Batch:
    """Lay rows side by side. A trained token that nothing precedes (a sequence's first) is left out of the loss."""
    lengths: list[int] = []
    ancestors: list[tuple[int, ...]] = []
    lasts: list[int] = []
    depths: list[int] = []
    input_ids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    predictors: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    pairs: list[tuple[int, int]] = []
    labeled: list[tuple[int, bool]] = []
    mismatched: list[int] = []
    offset = 0
    for row in rows:
        first = len(lengths)
        for segment in row.segments:
            index = len(lengths)
            parent = first + segment.parent if segment.parent >= 0 else -1
            depth = depths[parent] + lengths[parent] if parent >= 0 else 0
            before = lasts[parent] if parent >= 0 else -1
            trained = np.flatnonzero(segment.trained)
            predictor = np.where(trained > 0, offset + trained - 1, before)
            kept = predictor >= 0
            predictors.append(predictor[kept])
            targets.append(segment.ids[trained[kept]])
            owners.append(np.full(int(kept.sum()), index))
            input_ids.append(segment.ids)
            positions.append(np.arange(depth, depth + len(segment)))
            ancestors.append((*ancestors[parent], parent) if parent >= 0 else ())
            lengths.append(len(segment))
            depths.append(depth)
            offset += len(segment)
            lasts.append(offset - 1 if len(segment) else before)
        pairs += [(first + better, first + worse) for better, worse in row.pairs]
        labeled += [(first + index, wanted) for index, wanted in row.labeled]
        mismatched += [first + index for index, each in enumerate(row.segments) if each.label == "mismatched"]
    return Batch(
        rows=tuple(rows),
        layout=Layout(lengths, ancestors),
        input_ids=_joined(input_ids),
        position_ids=_joined(positions),
        predictors=_joined(predictors),
        targets=_joined(targets),
        owners=_joined(owners),
        chosen=torch.tensor([better for better, _ in pairs], dtype=torch.int64),
        rejected=torch.tensor([worse for _, worse in pairs], dtype=torch.int64),
        labeled=torch.tensor([index for index, _ in labeled], dtype=torch.int64),
        desirable=torch.tensor([wanted for _, wanted in labeled], dtype=torch.bool),
        mismatched=torch.tensor(mismatched, dtype=torch.int64),
    )


def segment_order(batch: Batch) -> Tensor:
    """(trained,) where each trained token of the batch is found once its rows are `unshared` and laid out in turn."""
    order: list[np.ndarray] = []
    offset = 0
    for row in batch.rows:
        owners = np.concatenate([owners for _, owners in unshared(row)])
        order.append(offset + np.argsort(owners, kind="stable"))
        offset += len(owners)
    return _joined(order)


def unshared(row: Row) -> list[tuple[Row, np.ndarray]]:
    """Spell out each root-to-leaf sequence as a row of one segment.

    Returns each with the (trained,) segments its trained tokens came from; a shared trained token stays with the first
    sequence that holds it.
    """
    parents = {segment.parent for segment in row.segments}
    told: set[int] = set()
    sequences: list[tuple[Row, np.ndarray]] = []
    for leaf in range(len(row.segments)):
        if leaf in parents:
            continue
        path = [leaf]
        while row.segments[path[0]].parent >= 0:
            path.insert(0, row.segments[path[0]].parent)
        ids = np.concatenate([row.segments[index].ids for index in path])
        trained = np.concatenate([row.segments[index].trained & (index not in told) for index in path])
        trained[0] = False
        owners = np.concatenate([np.full(len(row.segments[index]), index) for index in path])[trained]
        told.update(path)
        whole = replace(row.segments[leaf], ids=ids, trained=trained, parent=-1)
        sequences.append((Row(row.id, (whole,), row.place), owners))
    return sequences


def _joined(parts: list[np.ndarray]) -> Tensor:
    flat = np.concatenate(parts) if parts else np.zeros(0)
    return torch.from_numpy(flat.astype(np.int64))
