"""Continued pretraining and supervised fine-tuning: one loss per trained token."""

import pytest
import torch

from poise.batch.logps import Logps
from poise.batch.objective import Objective
from poise.objectives.cpt import CPT
from poise.objectives.sft import SFT

NONE = torch.zeros(0, dtype=torch.int64)


def logps(values: list[float]) -> tuple[Logps, torch.Tensor]:
    leaf = torch.tensor(values, requires_grad=True)
    return Logps(leaf, torch.zeros(len(values), dtype=torch.int64), 1, NONE, NONE), leaf


@pytest.mark.parametrize("objective", [SFT(), CPT()])
def test_the_loss_of_a_token_is_its_surprise(objective: Objective) -> None:
    """P = 1/2 and P = 1/4 are ln 2 and 2 ln 2 nats."""
    losses, metrics = objective(logps([-0.6931472, -1.3862944])[0], None)
    assert losses.tolist() == pytest.approx([0.6931472, 1.3862944])
    assert metrics == {}


@pytest.mark.parametrize("objective", [SFT(), CPT()])
def test_every_token_of_a_step_weighs_the_same(objective: Objective) -> None:
    """A step divides the sum by its tokens, so each of four has slope -1/4: its log-probability is to rise."""
    policy, leaf = logps([-0.1, -5.0, -1e4, -1e-9])
    losses, _ = objective(policy, None)
    (losses.sum() / len(losses)).backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [-0.25] * 4


@pytest.mark.parametrize("objective", [SFT(), CPT()])
def test_a_batch_without_trained_tokens_has_no_loss(objective: Objective) -> None:
    losses, _ = objective(logps([])[0], None)
    assert losses.shape == (0,)


@pytest.mark.parametrize(("objective", "rows"), [(SFT(), ("conversation",)), (CPT(), ("document",))])
def test_losses_are_counted_by_token_and_need_no_reference(objective: Objective, rows: tuple[str, ...]) -> None:
    assert (objective.unit, objective.rows, objective.needs_reference) == ("tokens", rows, False)
