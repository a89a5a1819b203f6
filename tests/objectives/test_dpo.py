"""DPO by hand (arXiv:2305.18290, equation 7)."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from poise.batch.logps import Logps
from poise.objectives.dpo import DPO

Make = Callable[..., tuple[Logps, Tensor]]


def test_the_loss_of_two_pairs(pair_logps: Make) -> None:
    """beta = 0.1; sums over tokens, against a reference that is 0.5 per token lower or higher.

    pair 1: log-ratios w: (-1 - 2) - (-4) = 1, l: -0.5 - (-0.25) = -0.25, margin 0.1 * 1.25 = 0.125
            -ln sigmoid(0.125) = ln(1 + e^-0.125) = ln 1.8824969 = 0.6325990
    pair 2: w: -3 - (-1) = -2, l: -1 - (-3) = 2, margin 0.1 * -4 = -0.4, ln(1 + e^0.4) = ln 2.4918247 = 0.9130153
    """
    policy, _ = pair_logps([[-1, -2], [-3]], [[-0.5], [-0.5, -0.5]])
    reference, _ = pair_logps([[-2, -2], [-1]], [[-0.25], [-1, -2]])
    losses, metrics = DPO(beta=0.1)(policy, reference)
    assert losses.tolist() == pytest.approx([0.6325990, 0.9130153], abs=1e-6)
    assert metrics["rewards/chosen"].tolist() == pytest.approx([0.1, -0.2])
    assert metrics["rewards/rejected"].tolist() == pytest.approx([-0.025, 0.2])
    assert metrics["rewards/margins"].tolist() == pytest.approx([0.125, -0.4])
    assert metrics["rewards/accuracies"].tolist() == [1, 0]
    assert metrics["logps/chosen"].tolist() == [-3, -3]
    assert metrics["logps/rejected"].tolist() == [-0.5, -1]
    assert not any(values.requires_grad for values in metrics.values())


def test_the_loss_is_ln_2_where_the_policy_is_the_reference(pair_logps: Make) -> None:
    policy, leaf = pair_logps([[-1.0, -2.0]], [[-0.5]])
    losses, metrics = DPO()(policy, policy.detach())
    assert losses.item() == pytest.approx(math.log(2), abs=1e-12)
    assert metrics["rewards/accuracies"].item() == 0
    losses.sum().backward()
    assert leaf.grad is not None
    # sigmoid(0) = 1/2, so every chosen token has slope -beta / 2 and every rejected one beta / 2
    assert leaf.grad.tolist() == pytest.approx([-0.05, -0.05, 0.05])


def test_a_step_down_raises_the_chosen_and_lowers_the_rejected(pair_logps: Make) -> None:
    """The slope is beta * sigmoid(-margin): with margin 0.125 it is 0.1 / (1 + e^0.125) = 0.0468791."""
    policy, leaf = pair_logps([[-1, -2]], [[-0.5]])
    reference, reference_leaf = pair_logps([[-2, -2]], [[-0.25]])
    DPO(beta=0.1)(policy, reference.detach())[0].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == pytest.approx([-0.0468791, -0.0468791, 0.0468791], abs=1e-6)
    assert reference_leaf.grad is None


def test_label_smoothing_adds_its_share_of_the_margin(pair_logps: Make) -> None:
    """(1 - e) L(m) + e L(-m) = L(m) + e m, because L(-m) = L(m) + m: 0.6325990 + 0.1 * 0.125 = 0.6450990."""
    policy, _ = pair_logps([[-1, -2]], [[-0.5]])
    reference, _ = pair_logps([[-2, -2]], [[-0.25]])
    losses, _ = DPO(beta=0.1, label_smoothing=0.1)(policy, reference)
    assert losses.item() == pytest.approx(0.6450990, abs=1e-6)


def test_label_smoothing_has_its_minimum_where_the_preference_is_that_sure(pair_logps: Make) -> None:
    """The slope in m is e - sigmoid(-m), which is 0 at m = ln((1 - e) / e): ln 9 for e = 0.1, reached at beta = 1."""
    policy, leaf = pair_logps([[0.0]], [[-math.log(9)]])
    reference, _ = pair_logps([[0.0]], [[0.0]])
    DPO(beta=1, label_smoothing=0.1)(policy, reference.detach())[0].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == pytest.approx([0, 0], abs=1e-12)


EXTREMES: dict[str, Any] = {
    "huge": ([[-1e4] * 9], [[-1e4] * 3]),
    "astronomic": ([[-1e30]], [[-1.0]]),
    "the other way round": ([[-1.0]], [[-1e30]]),
    "tiny": ([[-1e-12]], [[-1e-30]]),
    "certain": ([[0.0]], [[0.0]]),
    "equal": ([[-2.5, -1.0]], [[-2.5, -1.0]]),
    "one token": ([[-3.0]], [[-0.1]]),
}


@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_gradient_are_finite_in_float32(pair_logps: Make, case: str, smoothing: float) -> None:
    policy, leaf = pair_logps(*EXTREMES[case], dtype=torch.float32)
    reference, _ = pair_logps([[-1.0]], [[-1.0]], dtype=torch.float32)
    losses, _ = DPO(label_smoothing=smoothing)(policy, reference.detach())
    losses.sum().backward()
    assert leaf.grad is not None
    assert losses.isfinite().all()
    assert leaf.grad.isfinite().all()


log_probabilities = st.floats(-50, 0)


@given(*[log_probabilities] * 4, st.floats(0.01, 2), st.floats(0, 0.49))
def test_the_smoothed_loss_is_the_textbook_formula(
    chosen: float, rejected: float, at_first: float, at_first_rejected: float, beta: float, smoothing: float
) -> None:
    margin = beta * ((chosen - at_first) - (rejected - at_first_rejected))
    sure, unsure = (1 / (1 + math.exp(-sign * margin)) for sign in (1, -1))
    expected = -(1 - smoothing) * math.log(sure) - smoothing * math.log(unsure)
    policy = _one_pair(chosen, rejected)
    losses, _ = DPO(beta=beta, label_smoothing=smoothing)(policy, _one_pair(at_first, at_first_rejected))
    assert losses.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"beta": -1}, {"label_smoothing": 0.5}, {"betta": 0.1}])
def test_impossible_hyperparameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        DPO(**wrong)


def _one_pair(chosen: float, rejected: float) -> Logps:
    values = torch.tensor([chosen, rejected], dtype=torch.float64)
    return Logps(values, torch.tensor([1, 2]), 3, torch.tensor([1]), torch.tensor([2]))
