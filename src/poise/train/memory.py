"""Memory that runs out: recognise it, free what the failure holds, and go on with smaller micro-batches.

The optimizer step stays the recipe's: it is begun again from its first row, with gradients, sums and random numbers as
they were, so it comes out as if the token budget had been the smaller one from the start.
"""

import contextlib
import gc
import traceback
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import torch

from poise import progress
from poise.batch.row import Row
from poise.errors import ResourceError

SAID = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Unable to allocate",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""What allocators say: CUDA and MPS, torch's on the CPU (Linux, Windows), NumPy's, C++'s, and cuBLAS's."""
REMEDIES = (
    "activation_checkpointing=true, a shorter max_length, use_peft=true (on CUDA with load_in_4bit=true), "
    "or a smaller model"
)
T = TypeVar("T")


class NoRoomError(ResourceError):
    """A forward or backward pass over `rows` did not fit."""

    def __init__(self, rows: Sequence[Row], size: int, said: str, *, can_retry: bool) -> None:
        """Take the micro-batch, its tokens, the allocator's words, and whether beginning the step again is sound."""
        self.rows, self.size, self.said, self.can_retry = tuple(rows), size, said, can_retry
        super().__init__(self._alone() if len(rows) == 1 else self._together())

    def _alone(self) -> str:
        row = self.rows[0]
        return (
            f"out of memory on one row alone: {row.id} ({row.place}), {self.size:,} tokens\n"
            f"    why:    {self.said}; a micro-batch cannot be smaller than a row\n"
            f"    to do:  {REMEDIES}; or drop this row"
        )

    def _together(self) -> str:
        return (
            f"out of memory on a micro-batch of {len(self.rows)} rows, {self.size:,} tokens\n"
            f"    why:    {self.said}; with several processes a step cannot be begun again by one of them\n"
            f"    to do:  tokens_per_micro_batch={max(1, self.size // 2)}, the result is the same; else {REMEDIES}"
        )


def room_for(rows: Sequence[Row], size: int, *, can_retry: bool = True) -> contextlib.AbstractContextManager[None]:
    """Turn an allocator's failure inside the block into NoRoomError, which holds on to no tensor."""
    return _instead_of_failing(lambda said: NoRoomError(rows, size, said, can_retry=can_retry))


@contextlib.contextmanager
def _instead_of_failing(told: Callable[[str], ResourceError]) -> Generator[None]:
    """Raise what `told` makes of an allocator's message in place of its failure; other errors pass."""
    said = None
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        said = _let_go(error)
    if said is not None:  # outside the handler, or the new error would carry the old one and its graph
        raise told(said)


def fitting(attempt: Callable[[int], T], tokens: int, again: Callable[[int, str], None]) -> T:
    """Call `attempt` with a token budget, which is halved as often as memory runs out.

    Each halving is told in one line, and to `again`, with the new budget, before the next attempt. Raises NoRoomError
    where a row alone does not fit, or where the attempt cannot be repeated.
    """
    while True:
        try:
            return attempt(tokens)
        except NoRoomError as error:
            if len(error.rows) == 1 or not error.can_retry:
                raise
            size = min(tokens, error.size)
        tokens = max(1, size // 2)
        sentence = (
            f"memory ran out on a micro-batch of {size:,} tokens; going on with {tokens:,}, the result is the same"
        )
        progress.say(f"note: {sentence}")
        again(tokens, sentence)
        collect()


def told_plainly() -> contextlib.AbstractContextManager[None]:
    """Say of memory that ran out anywhere else what can be done about it."""
    return _instead_of_failing(
        lambda said: ResourceError(
            f"out of memory outside the passes over rows: {said}\n"
            "    why:    the weights, their gradients or the optimizer's state do not fit\n"
            "    to do:  use_peft=true (on CUDA with load_in_4bit=true), torch_dtype=bfloat16, or a smaller model"
        )
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an allocation that failed, on any device, from every other error."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAID)


def collect() -> None:
    """Give freed memory back, so that an allocation of another size can have it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _let_go(error: BaseException) -> str:
    """Empty the frames the error went through, whose variables hold the graph; returns its first line."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause.__traceback__, cause = None, cause.__context__
    return said.removesuffix(".")
