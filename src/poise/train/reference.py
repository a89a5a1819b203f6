"""The reference: log-probabilities of the policy as it was when the objective began, computed once and kept.

They are stored per row under the hash of the weights that gave them; the next run with the same weights, whatever its
learning rate or beta, finds them again. A row whose tokens changed has another hash and is computed alone. Several
processes compute a share each.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from poise import progress
from poise.batch.batch import Batch, make_batch
from poise.batch.logps import Logps
from poise.batch.pack import pack
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.train import processes
from poise.train.memory import fitting, room_for
from poise.train.store import Store

VERSION = "2"
"""Raised when scoring changes in a way that makes stored values wrong."""
TIMES_TRAINING = {"cpu": 1, "mps": 2, "cuda": 4}
"""Tokens of a pass beside those of a training micro-batch, since nothing is kept for a backward pass. On the CPU a
larger one only costs: 100 pairs took a core 4.0 s with 4,096 tokens, 4.2 s with 16,384 and 4.7 s with 32,768.
"""
MOST_TOKENS = 1 << 17
"""Bound of a pass that is larger than a training micro-batch."""
SECONDS_BETWEEN_FILES = 60.0
"""A pass that is stopped loses no more than this."""
PASSING_SETTINGS = (
    "_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
"""Of a model's configuration, what changes no log-probability; its dtype stands in the key by itself."""


@dataclass(frozen=True)
class Reference:
    """Log-probabilities of each row's trained tokens under the frozen reference."""

    by_row: dict[str, np.ndarray]
    """Row digest -> (trained,) float32 nats."""
    weights_sha256: str
    seconds: float
    computed: int
    """Rows that were not found in the store."""
    notes: tuple[str, ...] = ()
    """What a run should say of it."""

    @property
    def cached(self) -> bool:
        """Whether every row was found in the store."""
        return self.computed == 0

    def logps(self, batch: Batch) -> Logps:
        """Line the stored values up with a batch."""
        values = [self.by_row[row.digest()] for row in batch.rows if row.trained_tokens]
        flat = np.concatenate([np.zeros(0, np.float32), *values])
        return batch.logps(torch.from_numpy(flat).to(batch.owners.device))


def reference_for(
    rows: Sequence[Row],
    scorer: Scorer,
    weights_sha256: str,
    *,
    tokens: int,
    store: Path | None,
    called: str = "reference",
) -> Reference:
    """Look every row up in the store and compute what is missing, in one pass without gradient.

    `tokens` is the budget of a training micro-batch. Call it inside the context that the model computes in, whose type
    belongs to the key. `called` is what the person waiting reads of it.
    """
    started = time.monotonic()
    by_digest = {row.digest(): row for row in rows}
    kept = _kept(store, scorer, weights_sha256)
    found = processes.main_alone(lambda: kept.read(by_digest) if kept else {})
    missing = [row for digest, row in by_digest.items() if digest not in found]
    notes: list[str] = []
    if missing:
        computed, notes = _compute(missing, scorer, tokens, kept, called)
        found |= computed
    seconds = time.monotonic() - started
    progress.say(f"{called}: {_told(len(by_digest), len(missing), seconds, kept)}")
    return Reference(found, weights_sha256, seconds, len(missing), tuple(notes))


def missing_from(store: Path | None, rows: Sequence[Row], scorer: Scorer, weights_sha256: str) -> list[Row]:
    """Return the rows whose values would have to be computed, each once; called in the context of `reference_for`."""
    by_digest = {row.digest(): row for row in rows}
    kept = _kept(store, scorer, weights_sha256)
    known = kept.read(by_digest) if kept else {}
    return [row for digest, row in by_digest.items() if digest not in known]


def _told(rows: int, computed: int, seconds: float, kept: Store | None) -> str:
    if kept is None:
        return f"{rows:,} rows computed in {seconds:.1f} s, not kept"
    if not computed:
        return f"all {rows:,} rows reused from {kept.folder}, 0 computed, {seconds:.1f} s"
    if computed < rows:
        return f"{rows - computed:,} rows reused from {kept.folder}, {computed:,} computed, {seconds:.1f} s"
    return f"{rows:,} rows computed in {seconds:.1f} s, kept in {kept.folder}"


def weights_sha256(model: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters and buffers, and the scale of each adapter."""
    content = hashlib.sha256()
    for name, module in model.named_modules():
        if isinstance(getattr(module, "scaling", None), dict):
            content.update(f"{name} {sorted(module.scaling.items())}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        for part in _parts(tensor.detach()):
            content.update(part.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors that a quantized one of torchao consists of; a plain one is its own only part."""
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [getattr(tensor, name) for name in names]


def _compute(
    rows: Sequence[Row], scorer: Scorer, tokens: int, kept: Store | None, called: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Score rows, each process its share; returns all values by digest, and what there is to say of lacking memory."""
    own = processes.shares(rows, scorer.tokens, processes.count())[processes.rank()]
    shares = processes.everyone(processes.together(lambda: _compute_own(own, scorer, tokens, kept, called)))
    found: dict[str, np.ndarray] = {}
    for share, _ in shares:
        found |= share
    return found, [note for _, notes in shares for note in notes]


def _compute_own(
    rows: Sequence[Row], scorer: Scorer, tokens: int, kept: Store | None, called: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Score rows, and store them now and then, the rest at the end, be it an error or Ctrl-C."""
    was_training = scorer.training
    scorer.eval()
    pass_ = _Pass(scorer, kept)
    notes: list[str] = []
    try:
        with progress.stage(called, len(rows)) as stage, torch.no_grad():
            budget = pass_tokens(tokens, scorer.device)
            fitting(
                lambda tokens: pass_.score(rows, tokens, stage),
                budget,
                lambda _, said: notes.append(f"{called}: {said}"),
            )
    finally:
        pass_.keep()
        scorer.train(was_training)
    return pass_.found, notes


def pass_tokens(tokens: int, device: torch.device) -> int:
    """Return the token budget of a pass without gradient, from that of a training micro-batch."""
    return max(tokens, min(TIMES_TRAINING.get(device.type, 1) * tokens, MOST_TOKENS))


class _Pass:
    """What was found so far, and what of it is not stored yet."""

    def __init__(self, scorer: Scorer, kept: Store | None) -> None:
        self.scorer, self.kept = scorer, kept
        self.found: dict[str, np.ndarray] = {}
        self._fresh: dict[str, np.ndarray] = {}
        self._written = time.monotonic()

    def score(self, rows: Sequence[Row], tokens: int, stage: progress.Stage) -> None:
        """Score the rows that are not found yet."""
        left = [row for row in rows if not self.found or row.digest() not in self.found]
        for group in pack(left, tokens, self.scorer.tokens):
            with room_for(group, sum(map(self.scorer.tokens, group))):
                batch = make_batch(group).to(self.scorer.device)
                values = _split_by_row(batch, self.scorer(batch).values)
            self.found |= values
            self._fresh |= values
            if time.monotonic() - self._written >= SECONDS_BETWEEN_FILES:
                self.keep()
            stage.advance(len(self.found))

    def keep(self) -> None:
        """Store what is not stored yet."""
        if self.kept is not None and self._fresh:
            self.kept.write(self._fresh)
        self._fresh, self._written = {}, time.monotonic()


def _split_by_row(batch: Batch, values: Tensor) -> dict[str, np.ndarray]:
    row_of_segment = np.repeat(np.arange(len(batch.rows)), [len(row.segments) for row in batch.rows])
    row_of_token = row_of_segment[batch.owners.cpu().numpy()]
    cuts = np.searchsorted(row_of_token, np.arange(1, len(batch.rows)))
    parts = np.split(values.float().cpu().numpy(), cuts)
    return {row.digest(): part for row, part in zip(batch.rows, parts, strict=True)}


def _kept(store: Path | None, scorer: Scorer, weights_sha256: str) -> Store | None:
    return Store(store / "reference" / _key(weights_sha256, scorer)) if store else None


def _key(weights: str, scorer: Scorer) -> str:
    """Hash what the values depend on beyond rounding.

    How attention is computed is not in it: before training, every way is held against the model's own, one by one.
    """
    dtype = torch.get_autocast_dtype(scorer.device.type) if torch.is_autocast_enabled(scorer.device.type) else None
    settings = {key: value for key, value in scorer.config.to_dict().items() if key not in PASSING_SETTINGS}
    facts = (VERSION, weights, str(scorer.causal_lm.dtype), str(dtype))
    content = repr(facts) + json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:32]
