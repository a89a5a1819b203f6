"""The store of log-probabilities: files that are written once and renamed, in which every row has its own check.

    <folder>/<rows>.safetensors        what one pass computed, or a part of a long one
        digests   (rows, 32) uint8     SHA-256 of a row's tokens and mask
        offsets   (rows + 1,) int64    where a row's values begin and end
        values    (tokens,) float32    nats
        checks    (rows, 16) uint8     BLAKE2b over digest and values

Two runs at once, or two processes, write files of their own and lose nothing; a pass that is stopped keeps the files it
has written; a damaged row is left out alone.
"""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poise import progress

CHECK_BYTES = 16
DTYPES = {"digests": "uint8", "offsets": "int64", "values": "float32", "checks": "uint8"}


@dataclass(frozen=True)
class Store:
    """A folder of such files; values are found by row digest (hexadecimal)."""

    folder: Path

    def read(self, wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Return what is stored of the wanted rows, each (trained,) float32 and checked.

        A damaged file is told in one line and mended: its sound rows stay, or it is removed where nothing can be read.
        """
        found: dict[str, np.ndarray] = {}
        left = {bytes.fromhex(digest) for digest in wanted}
        for file in sorted(self.folder.glob("*.safetensors")):
            if not left:
                break
            for digest, values in self._read_file(file, left).items():
                found[digest.hex()] = values
                left.discard(digest)
        return found

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        """Keep rows. A store that cannot be written is told, and costs the next run a pass, not this run its end."""
        by_digest = {bytes.fromhex(digest): each for digest, each in sorted(values.items())}
        name = hashlib.sha256(b"".join(by_digest)).hexdigest()[:32]
        try:
            _write(self.folder / f"{name}.safetensors", by_digest)
        except OSError as error:
            progress.say(f"warning: cannot keep the reference in {self.folder}: {error.strerror or error}")

    def _read_file(self, file: Path, wanted: set[bytes]) -> dict[bytes, np.ndarray]:
        try:
            shard = _Shard.load(file)
        except FileNotFoundError:  # another run has just removed it, damaged
            return {}
        except _UnreadableError as error:
            progress.say(f"warning: {file} of the stored reference is damaged ({error}); its rows are computed again")
            file.unlink(missing_ok=True)
            return {}
        chosen = [index for index, digest in enumerate(shard.digests) if digest in wanted]
        sound = {shard.digests[index]: shard.row(index) for index in chosen if shard.is_sound(index)}
        if len(sound) < len(chosen):
            every = [index for index in range(len(shard.digests)) if shard.is_sound(index)]
            damaged = len(shard.digests) - len(every)
            progress.say(
                f"warning: {damaged:,} of {len(shard.digests):,} rows in {file} of the stored reference are damaged; "
                "they are computed again"
            )
            with contextlib.suppress(OSError):
                _write(file, {shard.digests[index]: shard.row(index) for index in every})
        return sound


class _UnreadableError(Exception):
    """A file that is not one of these, or was cut off."""


@dataclass(frozen=True)
class _Shard:
    digests: list[bytes]
    offsets: list[int]
    values: np.ndarray
    checks: bytes

    @classmethod
    def load(cls, file: Path) -> "_Shard":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            held = load_file(file)
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise _UnreadableError(str(error).splitlines()[0]) from error
        if {name: tensor.dtype.name for name, tensor in held.items()} != DTYPES:
            raise _UnreadableError(f"it does not hold {', '.join(DTYPES)}")
        digests, offsets, checks = held["digests"], held["offsets"].ravel(), held["checks"]
        if digests.shape != (len(offsets) - 1, 32) or checks.shape != (len(digests), CHECK_BYTES):
            raise _UnreadableError("its sizes do not agree")
        packed = digests.tobytes()
        return cls(
            digests=[packed[start : start + 32] for start in range(0, len(packed), 32)],
            offsets=offsets.tolist(),
            values=held["values"].ravel(),
            checks=checks.tobytes(),
        )

    def row(self, index: int) -> np.ndarray:
        return self.values[max(0, self.offsets[index]) : max(0, self.offsets[index + 1])]

    def is_sound(self, index: int) -> bool:
        said = self.checks[index * CHECK_BYTES : (index + 1) * CHECK_BYTES]
        return _check(self.digests[index], self.row(index)) == said


def _check(digest: bytes, values: np.ndarray) -> bytes:
    content = hashlib.blake2b(digest, digest_size=CHECK_BYTES)
    content.update(values.data)
    return content.digest()


def _write(file: Path, by_digest: Mapping[bytes, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    rows = [np.ascontiguousarray(values, np.float32) for values in by_digest.values()]
    tensors = {
        "digests": np.frombuffer(b"".join(by_digest), np.uint8).reshape(-1, 32),
        "offsets": np.cumsum([0, *map(len, rows)], dtype=np.int64),
        "values": np.concatenate([np.zeros(0, np.float32), *rows]),
        "checks": np.frombuffer(b"".join(map(_check, by_digest, rows)), np.uint8).reshape(-1, CHECK_BYTES),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_name(f".{file.stem}.{uuid.uuid4().hex}")
    try:
        save_file(tensors, staged)
        with staged.open("rb+") as written:
            os.fsync(written.fileno())
        staged.replace(file)
    finally:
        staged.unlink(missing_ok=True)
