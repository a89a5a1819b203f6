"""Objectives whose items look at one another, over an optimizer step of any number of micro-batches and processes.

All micro-batches are scored without gradient, the loss of the whole step gives a gradient per token, and then each
micro-batch is scored again and sent backward with its own part (as gradient caching does for contrastive losses, Gao et
al. 2021, arXiv:2101.06983). The result is that of one batch holding the whole step; it costs one more forward pass.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poise.batch.batch import Batch, make_batch
from poise.batch.logps import Logps, side_by_side
from poise.batch.objective import Objective
from poise.batch.row import Row, without_mismatched

Join = Callable[[Logps], list[Logps]]
"""Collect the Logps of all processes, by rank; without gradient."""


@dataclass(frozen=True)
class Scored:
    """A micro-batch, and the state of the random numbers it was scored with."""

    batch: Batch
    logps: Logps
    random: list[Tensor]
    drew: bool
    """Whether any were drawn, as dropout does."""


def score(batches: Sequence[Batch], forward: Callable[[Batch], Logps]) -> list[Scored]:
    """Score without gradient, remembering what dropout drew."""
    with torch.no_grad():
        return [_score(batch, forward) for batch in batches]


def _score(batch: Batch, forward: Callable[[Batch], Logps]) -> Scored:
    before, logps = random_state(), forward(batch)
    drew = not all(map(torch.equal, before, random_state()))
    return Scored(batch, logps, before, drew)


def token_gradients(
    objective: Objective, scored: Sequence[Scored], reference: Logps | None, join: Join, rank: int
) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """Return own losses and metrics (items,), and d(sum of all losses)/d(log-probability) per micro-batch."""
    own = side_by_side([each.logps for each in scored])
    everyone = join(own)
    whole = side_by_side(everyone)
    leaf = whole.values.detach().requires_grad_()
    whole_reference = side_by_side(join(reference)) if reference is not None else None
    with torch.enable_grad():
        losses, metrics = objective(replace(whole, values=leaf), whole_reference)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    tokens = [len(each.values) for each in everyone]
    items = [_items(each, objective) for each in everyone]
    mine = gradient.split(tokens)[rank]
    return (
        losses.detach().split(items)[rank],
        {name: values.split(items)[rank] for name, values in metrics.items()},
        list(mine.split([len(each.logps.values) for each in scored])),
    )


def surrogate(scored: Scored, gradient: Tensor, forward: Callable[[Batch], Logps]) -> tuple[Tensor, Tensor | None]:
    """Score again with gradient; the returned scalar has the gradient that the whole step's loss has here.

    Beside it the router losses (rows,) of a mixture of experts, in which rows do not meet.
    Answers that only served an estimate are left out: nothing flows back through them. With dropout they stay, since
    the same numbers are only drawn for the same tokens.
    """
    batch = scored.batch
    if len(batch.mismatched) and not scored.drew:
        gradient = gradient[~torch.isin(batch.owners, batch.mismatched)]
        batch = make_batch([without_mismatched(row) for row in batch.rows]).to(batch.input_ids.device)
    with _random_state_set(scored.random):
        logps = forward(batch)
    return (logps.values * gradient).sum(), logps.router


def items(rows: Sequence[Row], objective: Objective) -> int:
    """Count what the objective's losses are counted by."""
    if objective.unit == "tokens":
        return sum(row.trained_tokens for row in rows)
    return sum(len(row.pairs if objective.unit == "pairs" else row.labeled) for row in rows)


def _items(logps: Logps, objective: Objective) -> int:
    counted = {"tokens": logps.values, "pairs": logps.chosen, "answers": logps.labeled}
    return len(counted[objective.unit])


def random_state() -> list[Tensor]:
    """Return the state of torch's generators, on the CPU and the current CUDA device."""
    on_cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *on_cuda]


@contextmanager
def _random_state_set(state: list[Tensor]) -> Generator[None]:
    """Draw again what was drawn from `state`, and go on afterwards from where things stood before."""
    now = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(now)


def set_random_state(state: list[Tensor]) -> None:
    """Draw from here on what was drawn after `random_state()` gave this."""
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1])
