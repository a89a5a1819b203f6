"""Several processes that train one model: who speaks and writes, what is decided together, and how all end.

Started by torchrun or `accelerate launch`, every process reads the same recipe and has the same rows. The main one
alone writes into the run folder and speaks; a mistake that one of them meets stops all, and is told once.
"""

import atexit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from poise.batch.row import Row, Segment
from poise.errors import PoiseError, StoppedElsewhere

T = TypeVar("T")

NOTHING = Row("nothing", (Segment(np.zeros(1, np.int32), np.zeros(1, np.bool_)),))
"""One token that is not trained on: what a process computes in a step that has no row for it, so as to take part."""


def meet(*, use_cpu: bool, backend: str | None, timeout_seconds: float) -> None:
    """Join the other processes of this run, if a launcher started several; the device becomes this process's own.

    A process that waits longer than `timeout_seconds` for another gives up.
    """
    if started() == 1 or dist.is_initialized():
        return
    from accelerate import PartialState

    PartialState(cpu=use_cpu, backend=backend, timeout=timedelta(seconds=timeout_seconds))
    atexit.register(_part)


def started() -> int:
    """Return how many processes the launcher started, whether they have met or not."""
    from accelerate.utils import get_int_from_env

    return get_int_from_env(["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"], 1)


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, 0 for the main one."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that speaks and writes."""
    return rank() == 0


def everyone(value: T) -> list[T]:
    """Collect a value of every process, by rank."""
    if count() == 1:
        return [value]
    values: list[T | None] = [None] * count()
    dist.all_gather_object(values, value)
    return cast("list[T]", values)


def summed(value: Tensor) -> Tensor:
    """Add a tensor up over all processes."""
    total = value.detach().clone()
    if count() > 1:
        dist.all_reduce(total)
    return total


def highest(number: int, device: torch.device) -> int:
    """Return the largest of a number that every process has one of."""
    if count() == 1:
        return number
    held = torch.tensor(number, device=device)
    dist.all_reduce(held, op=dist.ReduceOp.MAX)
    return int(held)


@dataclass(frozen=True)
class _Failure:
    message: str
    exit_code: int


def together(work: Callable[[], T]) -> T:
    """Do work that needs no other process, in all of them; where it fails in one it fails in all.

    The first process that failed raises its error, the others StoppedElsewhere.
    """
    if count() == 1:
        return work()
    result, error = None, None
    try:
        result = work()
    except Exception as caught:  # whatever it is, the others must hear of it
        error = caught
    failures = everyone(_Failure(str(error), getattr(error, "exit_code", 1)) if error else None)
    teller = next((rank for rank, failure in enumerate(failures) if failure is not None), None)
    if teller is None:
        return cast("T", result)
    if error is not None and teller == rank():
        raise error
    failure = cast("_Failure", failures[teller])
    raise StoppedElsewhere(failure.message, failure.exit_code) from error


def main_alone(work: Callable[[], T]) -> T:
    """Do work in the main process while the others wait; all return its result or fail with it."""
    result = together(work if is_main() else lambda: None)
    if count() == 1:
        return cast("T", result)
    held = [result]
    dist.broadcast_object_list(held, src=0)
    return cast("T", held[0])


def agreed(error: PoiseError) -> PoiseError:
    """Return what to raise where all processes raise the same error at the same place: the main one tells it."""
    return error if is_main() else StoppedElsewhere(str(error), error.exit_code)


def lost_another(error: BaseException) -> bool:
    """Whether an error comes from the end of another process in the middle of an exchange."""
    if count() == 1 or not isinstance(error, RuntimeError):
        return False
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out", "NCCL", "timeout")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


def shares(rows: Sequence[Row], size: Callable[[Row], int], hands: int) -> list[list[Row]]:
    """Deal rows out so that all have about as much to compute; everybody who deals gets the same, rows in order.

    From the largest down, each row goes to whoever has least (Graham 1969, doi:10.1137/0117039: at most 4/3 of the
    optimum). With fewer rows than hands some get none.
    """
    if hands == 1:
        return [list(rows)]
    loads = [0] * hands
    dealt: list[list[int]] = [[] for _ in range(hands)]
    sizes = [size(row) for row in rows]
    for index in sorted(range(len(rows)), key=lambda index: -sizes[index]):
        hand = min(range(hands), key=lambda hand: (loads[hand], len(dealt[hand])))
        loads[hand] += sizes[index]
        dealt[hand].append(index)
    return [[rows[index] for index in sorted(hand)] for hand in dealt]
