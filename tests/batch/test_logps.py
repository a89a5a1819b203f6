"""Sums of log-probabilities, by hand."""

import torch

from poise.batch.logps import Logps, preference_metrics

LOGPS = Logps(
    values=torch.tensor([-1.0, -2.0, -0.5, -0.25, -0.25]),
    owners=torch.tensor([1, 1, 2, 4, 4]),
    segments=6,
    chosen=torch.tensor([1, 4]),
    rejected=torch.tensor([2, 5]),
)
"""Two pairs in six segments: answers of 2 and 1 tokens, then of 2 and none."""


def test_a_segment_sums_its_own_tokens() -> None:
    assert LOGPS.sum().tolist() == [0, -3, -0.5, 0, -0.5, 0]


def test_a_segment_counts_its_trained_tokens() -> None:
    assert LOGPS.length().tolist() == [0, 2, 1, 0, 2, 0]


def test_a_segment_without_trained_tokens_has_mean_zero() -> None:
    assert LOGPS.mean().tolist() == [0, -1.5, -0.5, 0, -0.25, 0]


def test_pairs_pick_chosen_and_rejected() -> None:
    chosen, rejected = LOGPS.pairs(LOGPS.sum())
    assert (chosen.tolist(), rejected.tolist()) == ([-3, -0.5], [-0.5, 0])


def test_the_gradient_of_a_sum_reaches_its_own_tokens_alone() -> None:
    values = LOGPS.values.clone().requires_grad_()
    Logps(values, LOGPS.owners, 6, LOGPS.chosen, LOGPS.rejected).sum()[1].backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1, 1, 0, 0, 0]


def test_detached_logps_have_no_gradient() -> None:
    values = LOGPS.values.clone().requires_grad_()
    detached = Logps(values, LOGPS.owners, 6, LOGPS.chosen, LOGPS.rejected).detach()
    assert not detached.values.requires_grad
    assert detached.sum().tolist() == LOGPS.sum().tolist()


def test_sums_keep_the_dtype_of_the_values() -> None:
    logps = Logps(LOGPS.values.double(), LOGPS.owners, 6, LOGPS.chosen, LOGPS.rejected)
    assert {logps.sum().dtype, logps.length().dtype, logps.mean().dtype} == {torch.float64}


def test_preference_metrics_say_margins_and_accuracy_per_pair() -> None:
    """A tie is not a success: 0.5 against 0.25 counts, 1 against 1 does not."""
    metrics = preference_metrics(LOGPS, torch.tensor([0.5, 1.0]), torch.tensor([0.25, 1.0]))
    assert {name: values.tolist() for name, values in metrics.items()} == {
        "rewards/chosen": [0.5, 1.0],
        "rewards/rejected": [0.25, 1.0],
        "rewards/margins": [0.25, 0.0],
        "rewards/accuracies": [1.0, 0.0],
        "logps/chosen": [-3.0, -0.5],
        "logps/rejected": [-0.5, 0.0],
    }
