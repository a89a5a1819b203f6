"""One rendered Example: token segments that know their parent, before any of them meets torch.

conversation          a preference pair                     k answers to one prompt

[conversation]        [prompt][chosen][rejected]            [prompt][a1][a2]…[ak]
 parent: -1            -1       0       0                    -1       0   0    0
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Label = Literal["desirable", "undesirable", "mismatched"]
"""What an unpaired answer is: wanted, unwanted, or another row's answer put after this prompt."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A run of tokens that continues its parent (an index into the row's segments, -1 for none)."""

    ids: npt.NDArray[np.int32]
    """(tokens,) token ids."""
    trained: npt.NDArray[np.bool_]
    """(tokens,) whether the loss counts this token."""
    parent: int = -1
    rank: int | None = None
    """Place of an answer among those to the same prompt, 0 the best; answers of equal rank are not compared."""
    label: Label | None = None

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Row:
    """The segments of one Example; a parent stands before its children."""

    id: str
    segments: tuple[Segment, ...]
    place: str = ""
    """Where the Example came from, `file:row`, for messages and the ledger."""

    @property
    def tokens(self) -> int:
        """Tokens that are computed: a shared prompt counts once."""
        return sum(len(segment) for segment in self.segments)

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss counts; a sequence's first token is never one, nothing predicts it."""
        begins = [depth == len(segment) for depth, segment in zip(self._depths(), self.segments, strict=True)]
        return sum(int(each.trained[int(first) :].sum()) for first, each in zip(begins, self.segments, strict=True))

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(preferred, dispreferred) segments: one pair of two answers, k (k - 1) / 2 of k ranked ones."""
        ranked = [(index, segment.rank) for index, segment in enumerate(self.segments) if segment.rank is not None]
        return [(better, worse) for better, high in ranked for worse, low in ranked if high < low]

    @property
    def labeled(self) -> list[tuple[int, bool]]:
        """(segment, desirable) of each unpaired answer."""
        return [
            (index, segment.label == "desirable")
            for index, segment in enumerate(self.segments)
            if segment.label in ("desirable", "undesirable")
        ]

    def sequence_lengths(self) -> list[int]:
        """Length of every root-to-leaf sequence, the shared part counted in each."""
        parents = {segment.parent for segment in self.segments}
        return [total for index, total in enumerate(self._depths()) if index not in parents]

    def _depths(self) -> list[int]:
        """Tokens of each segment and all that it continues."""
        depths: list[int] = []
        for segment in self.segments:
            depths.append(len(segment) + (depths[segment.parent] if segment.parent >= 0 else 0))
        return depths

    def digest(self) -> str:
        """SHA-256 over tokens, mask and shape, not over ranks and labels: what a stored log-probability belongs to."""
        content = hashlib.sha256()
        for segment in self.segments:
            content.update(np.array([len(segment), segment.parent], dtype=np.int64).tobytes())
            content.update(segment.ids.astype(np.int32).tobytes())
            content.update(segment.trained.astype(np.bool_).tobytes())
        return content.hexdigest()


def without_mismatched(row: Row) -> Row:
    """Leave out the answers of other rows, which nothing continues."""
    return replace(row, segments=tuple(segment for segment in row.segments if segment.label != "mismatched"))
