"""ORPO by hand (arXiv:2403.07691, equations 4 to 7)."""

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
from poise.objectives.orpo import ORPO

Make = Callable[..., tuple[Logps, Tensor]]
HALF, FIFTH = math.log(0.5), math.log(0.2)


def test_the_loss_of_a_pair(pair_logps: Make) -> None:
    """Length-averaged probabilities 1/2 and 1/5 have odds 1 and 1/4, so the odds ratio is 4.

    L_SFT = ln 2 = 0.6931472, L_OR = -ln sigmoid(ln 4) = -ln(4/5) = 0.2231436, with beta = 0.1 together 0.7154615.
    The averages are over tokens: (2 ln 1/2 - 0.3 + 0.3) / 2 for the chosen.
    """
    policy, _ = pair_logps([[HALF - 0.3, HALF + 0.3]], [[FIFTH, FIFTH - 0.1, FIFTH + 0.1]])
    losses, metrics = ORPO(beta=0.1)(policy, None)
    assert losses.item() == pytest.approx(0.7154615, abs=1e-6)
    assert metrics["nll"].item() == pytest.approx(math.log(2))
    assert metrics["log_odds"].item() == pytest.approx(math.log(4))
    assert metrics["rewards/chosen"].item() == pytest.approx(0.1 * HALF)
    assert metrics["rewards/rejected"].item() == pytest.approx(0.1 * FIFTH)
    assert metrics["rewards/accuracies"].item() == 1
    assert not any(values.requires_grad for values in metrics.values())


def test_a_step_down_raises_the_chosen_and_lowers_the_rejected(pair_logps: Make) -> None:
    """d log odds / d log P = 1 / (1 - P): 2 for P = 1/2 and 5/4 for P = 1/5; 1 - sigmoid(ln 4) = 1/5.

    chosen: (-1 - 0.1 * 1/5 * 2) over its 2 tokens = -0.52; rejected: 0.1 * 1/5 * 5/4 over its 1 token = 0.025.
    """
    policy, leaf = pair_logps([[HALF, HALF]], [[FIFTH]])
    ORPO(beta=0.1)(policy, None)[0].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == pytest.approx([-0.52, -0.52, 0.025])


def test_equal_answers_cost_ln_2_of_odds(pair_logps: Make) -> None:
    policy, _ = pair_logps([[HALF, FIFTH]], [[HALF, FIFTH]])
    losses, metrics = ORPO(beta=1)(policy, None)
    assert losses.item() == pytest.approx(-(HALF + FIFTH) / 2 + math.log(2))
    assert metrics["rewards/accuracies"].item() == 0


def test_the_odds_are_of_averages_so_length_alone_changes_nothing(pair_logps: Make) -> None:
    short, _ = pair_logps([[HALF]], [[FIFTH]])
    long, _ = pair_logps([[HALF] * 7], [[FIFTH] * 3])
    assert ORPO()(short, None)[0].item() == pytest.approx(ORPO()(long, None)[0].item())


EXTREMES: dict[str, Any] = {
    "huge": ([[-1e4] * 9], [[-1e4] * 3]),
    "astronomic": ([[-1e30]], [[-1.0]]),
    "the other way round": ([[-1.0]], [[-1e30]]),
    "tiny": ([[-1e-12]], [[-1e-30]]),
    "at the precision of float32": ([[-1.2e-7]], [[-1.1e-7]]),
    "certain": ([[0.0]], [[0.0]]),
    "a certain rejected": ([[-5.0]], [[0.0]]),
    "at the switch of formulas": ([[HALF]], [[HALF]]),
    "equal": ([[-2.5, -1.0]], [[-2.5, -1.0]]),
    "one token": ([[-3.0]], [[-0.1]]),
}


@pytest.mark.parametrize("case", EXTREMES)
def test_loss_and_gradient_are_finite_in_float32(pair_logps: Make, case: str) -> None:
    policy, leaf = pair_logps(*EXTREMES[case], dtype=torch.float32)
    losses, metrics = ORPO()(policy, None)
    losses.sum().backward()
    assert leaf.grad is not None
    assert losses.isfinite().all()
    assert leaf.grad.isfinite().all()
    assert all(values.isfinite().all() for values in metrics.values())


@pytest.mark.parametrize("power", range(-6, 2))
def test_float32_keeps_the_odds_of_near_certain_answers(pair_logps: Make, power: int) -> None:
    """1 - P for P near 1 would lose all digits: the loss must be that of float64 to 1e-5."""
    answers = [[-(10.0**power)]], [[-3 * 10.0**power]]
    rounded = ORPO(beta=1)(pair_logps(*answers, dtype=torch.float32)[0], None)[0]
    exact = ORPO(beta=1)(pair_logps(*answers)[0], None)[0]
    assert rounded.item() == pytest.approx(exact.item(), rel=1e-5)


@given(st.floats(-30, -1e-6), st.floats(-30, -1e-6), st.floats(0.01, 2))
def test_the_loss_is_the_textbook_formula(chosen: float, rejected: float, beta: float) -> None:
    """In float64, with odds computed as P / (1 - P)."""
    ratio = math.exp(chosen) / -math.expm1(chosen) / (math.exp(rejected) / -math.expm1(rejected))
    expected = -chosen - beta * math.log(ratio / (1 + ratio))
    values = torch.tensor([chosen, rejected], dtype=torch.float64)
    policy = Logps(values, torch.tensor([1, 2]), 3, torch.tensor([1]), torch.tensor([2]))
    assert ORPO(beta=beta)(policy, None)[0].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"lambda": 0.1}])
def test_impossible_hyperparameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ORPO(**wrong)
