"""Means over all items, and over those a metric is about."""

import torch

from poise.batch.objective import only_of
from poise.train.means import Means


def test_a_metric_of_some_items_is_averaged_over_these() -> None:
    """Micro-batches of 3 and 1 items: chosen (1 + 3 + 8) / 3 = 4, rejected 6 / 1, the margin between them -2."""
    means = Means()
    desirable = torch.tensor([True, False, True])
    rewards = torch.tensor([1.0, 6.0, 3.0])
    means.add({"loss": rewards, "rewards/chosen": only_of(desirable, rewards)})
    means.add({"rewards/rejected": only_of(~desirable, rewards)})
    means.add({"loss": torch.tensor([2.0]), "rewards/chosen": only_of(torch.tensor([True]), torch.tensor([8.0]))})
    assert means.read() == {"loss": 3.0, "rewards/chosen": 4.0, "rewards/rejected": 6.0, "rewards/margins": -2.0}


def test_a_metric_that_no_item_has_is_left_out() -> None:
    means = Means()
    means.add({"rewards/chosen": only_of(torch.tensor([False]), torch.tensor([1.0])), "kl": torch.tensor([0.5])})
    assert means.read() == {"kl": 0.5}


def test_a_margin_of_pairs_is_their_own() -> None:
    means = Means()
    one = torch.tensor([1.0])
    means.add({"rewards/chosen": one, "rewards/rejected": one, "rewards/margins": 7 * one})
    assert means.read()["rewards/margins"] == 7
