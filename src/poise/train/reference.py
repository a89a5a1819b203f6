"""The reference: log-probabilities of the policy as it was when the objective began, computed once and kept.

They are stored per row under the hash of the weights that gave them; the next run with the same weights, whatever its
learning rate or beta, finds them again. A row whose tokens changed has another hash and is computed alone.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poise import progress
from poise.batch.batch import Batch, make_batch
from poise.batch.logps import Logps
from poise.batch.pack import pack
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.train.memory import fitting, room_for

VERSION = "1"
"""Raised when scoring changes in a way that makes stored values wrong."""


@dataclass(frozen=True)
class Reference:
    """Log-probabilities of each row's trained tokens under the frozen reference."""

    by_row: dict[str, np.ndarray]
    """Row digest -> (trained,) float32 nats."""
    weights_sha256: str
    seconds: float
    cached: bool
    """Whether every row was found in the store."""
    notes: tuple[str, ...] = ()
    """What a run should say of it."""

    def logps(self, batch: Batch) -> Logps:
        """Line the stored values up with a batch."""
        values = np.concatenate([self.by_row[row.digest()] for row in batch.rows])
        return batch.logps(torch.from_numpy(values).to(batch.owners.device))


def reference_for(
    rows: Sequence[Row], scorer: Scorer, weights_sha256: str, *, tokens: int, store: Path | None
) -> Reference:
    """Look every row up in the store and compute what is missing, in one pass without gradient."""
    started = time.monotonic()
    file = _file(store, weights_sha256, scorer)
    known = _read(file) if file else {}
    by_row = {digest: known[digest] for row in rows if (digest := row.digest()) in known}
    missing = list({row.digest(): row for row in rows if row.digest() not in by_row}.values())
    notes: list[str] = []
    if missing:
        computed, notes = _compute(missing, scorer, tokens)
        by_row |= computed
        if file:
            _write(file, known | by_row)
    else:
        progress.say(f"reference: all {len(rows):,} rows found in {file}, nothing to compute")
    return Reference(by_row, weights_sha256, time.monotonic() - started, not missing, tuple(notes))


def missing_from(store: Path | None, rows: Sequence[Row], scorer: Scorer, weights_sha256: str) -> list[Row]:
    """Return the rows whose values would have to be computed, each once."""
    file = _file(store, weights_sha256, scorer)
    known = _read(file) if file else {}
    return [row for digest, row in {row.digest(): row for row in rows}.items() if digest not in known]


def weights_sha256(model: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters and buffers."""
    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()


def default_store() -> Path:
    """Where stored log-probabilities live: $POISE_CACHE, else the user's cache folder."""
    chosen = os.environ.get("POISE_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poise"


def _compute(rows: Sequence[Row], scorer: Scorer, tokens: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Score rows; returns the values by digest, and what there is to say of memory that ran out."""
    was_training = scorer.training
    scorer.eval()
    found: dict[str, np.ndarray] = {}
    notes: list[str] = []
    with progress.stage("reference", len(rows)) as stage, torch.no_grad():

        def score(tokens: int) -> None:
            left = [row for row in rows if not found or row.digest() not in found]
            for group in pack(left, tokens, scorer.tokens):
                with room_for(group, sum(map(scorer.tokens, group))):
                    batch = make_batch(group).to(scorer.device)
                    found.update(_split_by_row(batch, scorer(batch).values))
                stage.advance(len(found))

        fitting(score, tokens, lambda _, said: notes.append(f"reference: {said}"))
    scorer.train(was_training)
    return found, notes


def _split_by_row(batch: Batch, values: Tensor) -> dict[str, np.ndarray]:
    row_of_segment = np.repeat(np.arange(len(batch.rows)), [len(row.segments) for row in batch.rows])
    row_of_token = row_of_segment[batch.owners.cpu().numpy()]
    cuts = np.searchsorted(row_of_token, np.arange(1, len(batch.rows)))
    parts = np.split(values.float().cpu().numpy(), cuts)
    return {row.digest(): part for row, part in zip(batch.rows, parts, strict=True)}


def _file(store: Path | None, weights_sha256: str, scorer: Scorer) -> Path | None:
    return store / "reference" / f"{_key(weights_sha256, scorer)}.safetensors" if store else None


def _key(weights: str, scorer: Scorer) -> str:
    dtype = torch.get_autocast_dtype(scorer.device.type) if torch.is_autocast_enabled(scorer.device.type) else None
    facts = (VERSION, weights, str(scorer.causal_lm.dtype), str(dtype))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _read(file: Path) -> dict[str, np.ndarray]:
    """Return what is stored; nothing, with a line that says so, where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return {}
    try:
        with safe_open(file, "numpy") as stored:
            by_row = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no mapping
            written = (stored.metadata() or {}).get("sha256")
    except SafetensorError as error:
        by_row, written = {}, str(error)
    if written == _sha256(by_row):
        return by_row
    progress.say(f"warning: the stored reference {file} is damaged; it is computed again")
    return {}


def _write(file: Path, by_row: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_name(f".{file.name}.{os.getpid()}")
    save_file(by_row, staged, metadata={"sha256": _sha256(by_row)})
    staged.replace(file)


def _sha256(by_row: dict[str, np.ndarray]) -> str:
    content = hashlib.sha256()
    for digest, values in sorted(by_row.items()):
        content.update(digest.encode())
        content.update(np.ascontiguousarray(values, np.float32).tobytes())
    return content.hexdigest()
