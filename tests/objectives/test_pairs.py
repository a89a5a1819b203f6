"""The losses on pairs by hand, and what holds for all of them; test_against_trl.py has another implementation."""

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
from poise.batch.objective import MovingReference, Objective
from poise.batch.preference import Pairs, ReferencePairs
from poise.batch.weighted import weighted_sum
from poise.names import names_in
from poise.objectives.aot import AOT
from poise.objectives.aot_unpaired import AOTUnpaired
from poise.objectives.apo_down import APODown
from poise.objectives.apo_zero import APOZero
from poise.objectives.bco_pair import BCOPair
from poise.objectives.cpo import CPO
from poise.objectives.cpt import CPT
from poise.objectives.discopop import DiscoPOP
from poise.objectives.dpo import DPO
from poise.objectives.exo_pair import EXOPair
from poise.objectives.hinge import Hinge
from poise.objectives.ipo import IPO
from poise.objectives.nca_pair import NCAPair
from poise.objectives.nll import NLL
from poise.objectives.robust import Robust
from poise.objectives.sigmoid_norm import SigmoidNorm
from poise.objectives.simpo import SimPO
from poise.objectives.sppo_hard import SPPOHard
from poise.recipe_objective import objective_class
from poise.report.signals import STARTS_AT_LN2

Make = Callable[..., tuple[Logps, Tensor]]
PAIRS = [name for name in names_in("poise.objectives") if issubclass(objective_class(name), Pairs)]
MEASURED = [name for name in PAIRS if issubclass(objective_class(name), ReferencePairs)]

GOLDEN: list[tuple[Objective, float]] = [
    (IPO(beta=0.1), 18.0625),  # (1/2 + 1/4 - 5)^2
    (Hinge(beta=0.1), 0.875),  # 1 - 0.125
    (Robust(beta=0.1, label_smoothing=0.1), 0.6169740),  # (0.9 * 0.6325990 - 0.1 * 0.7575990) / 0.8
    (
        EXOPair(beta=0.1, label_smoothing=0.1),
        0.4442010,
    ),  # 0.5312094 (-0.6325990 - ln 0.9) + 0.4687906 (-0.757599 - ln 0.1)
    (NCAPair(beta=0.1), 1.3569577),  # 0.6443967 + 0.7443967 / 2 + 0.6807253 / 2
    (BCOPair(beta=0.1), 1.3251220),  # 0.6443967 + 0.6807253
    (SPPOHard(beta=0.1), 38.5625),  # (1 - 5)^2 + (-1/4 + 5)^2
    (APOZero(beta=0.1), 0.9687711),  # 1 - sigmoid(0.1) + sigmoid(-0.025)
    (APODown(beta=0.1), 0.9937698),  # sigmoid(0.1) + 1 - sigmoid(0.125)
    (DiscoPOP(beta=0.1, discopop_tau=0.05), 0.8635401),  # sigmoid(-2.5) 0.6325990 + sigmoid(2.5) e^-0.125
    (SigmoidNorm(beta=5), 0.0232454),  # ln(1 + e^-(5 (1/2 + 1/4)))
    (AOT(beta=0.1), 0.6325990),  # of one pair: dpo's
    (AOTUnpaired(beta=0.1), 0.6325990),
    (NLL(), 1.5),  # (1 + 2) / 2
    (CPO(beta=0.1, cpo_alpha=1), 2.3259394),  # ln(1 + e^0.25) + 1.5
    (SimPO(beta=2, simpo_gamma=0.5), 2.5788897),  # ln(1 + e^2.5): 2 (-1.5 + 0.5) - 0.5 = -2.5
]


@pytest.mark.parametrize(("objective", "expected"), GOLDEN, ids=lambda value: type(value).__name__)
def test_the_loss_of_a_pair(pair_logps: Make, objective: Objective, expected: float) -> None:
    """log-ratios: chosen (-1 - 2) - (-2 - 2) = 1, rejected -0.5 - (-0.25) = -0.25, margin 0.125 with beta 0.1."""
    policy, _ = pair_logps([[-1, -2]], [[-0.5]])
    reference, _ = pair_logps([[-2, -2]], [[-0.25]])
    assert objective(policy, reference)[0].item() == pytest.approx(expected, abs=2e-7)


@pytest.mark.parametrize("name", PAIRS)
def test_the_first_step_moves_the_answers_as_the_paper_says(pair_logps: Make, name: str) -> None:
    """From the reference, all raise the chosen answer and lower the rejected one, except for three.

    apo_down leaves the chosen one for now, nll does not look at the rejected one, and discopop's loss rises at a margin
    of 0: its slope there is (1 - ln 2) / (4 tau) - 3/4, the paper's non-convex segment.
    """
    policy, leaf = pair_logps([[-1.0, -2.0]], [[-0.5]])
    objective_class(name)()(policy, policy.detach())[0].sum().backward()
    assert leaf.grad is not None
    signs = [int(sign) for sign in leaf.grad.sign()]
    chosen, rejected = {"apo_down": (0, 1), "nll": (-1, 0), "discopop": (1, -1)}.get(name, (-1, 1))
    assert signs == [chosen, chosen, rejected]


def test_apo_down_lowers_a_chosen_answer_that_is_above_the_reference(pair_logps: Make) -> None:
    policy, leaf = pair_logps([[-1.0]], [[-1.0]])
    reference, _ = pair_logps([[-3.0]], [[-9.0]])
    APODown(beta=1)(policy, reference)[0].sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad > 0).all()


def test_the_losses_that_start_at_ln_2_are_those_the_report_knows(pair_logps: Make) -> None:
    policy, _ = pair_logps([[-1.0, -2.0], [-0.3]], [[-0.5], [-0.1, -0.2]])
    started = {name: objective_class(name)()(policy, policy.detach())[0].mean().item() for name in MEASURED}
    at_ln2 = {name for name, loss in started.items() if loss == pytest.approx(math.log(2), abs=1e-9)}
    assert at_ln2 == set(STARTS_AT_LN2)


# whole steps


def test_aot_compares_sorted_margins(pair_logps: Make) -> None:
    """Policy margins 3 and 1 sorted 1, 3; reference margins 0 and 2: differences 1 and 1 whichever pair they are of."""
    policy, _ = pair_logps([[-1.0], [-4.0]], [[-4.0], [-5.0]])
    reference, _ = pair_logps([[-2.0], [-2.0]], [[-2.0], [-4.0]])
    expected = math.log(1 + math.exp(-1))
    assert AOT(beta=1)(policy, reference)[0].tolist() == pytest.approx([expected, expected])
    paired = DPO(beta=1)(policy, reference)[0].tolist()
    assert paired == pytest.approx([math.log(1 + math.exp(-3)), math.log(1 + math.exp(1))])


def test_aot_unpaired_compares_sorted_rewards(pair_logps: Make) -> None:
    """Chosen rewards 3 and 0 sorted 0, 3; rejected 1 and -2 sorted -2, 1: differences 2 and 2."""
    policy, _ = pair_logps([[-1.0], [-4.0]], [[-1.0], [-4.0]])
    reference, _ = pair_logps([[-4.0], [-4.0]], [[-2.0], [-2.0]])
    losses = AOTUnpaired(beta=1)(policy, reference)[0]
    assert losses.tolist() == pytest.approx([math.log(1 + math.exp(-2))] * 2)


def test_only_the_losses_that_sort_look_at_the_whole_step() -> None:
    assert {name for name in PAIRS if objective_class(name).whole_step} == {"aot", "aot_unpaired"}


numbers = st.lists(st.floats(-20, 0), min_size=8, max_size=8)


@given(numbers, numbers, st.permutations([0, 1, 2, 3]))
def test_the_order_of_the_pairs_changes_no_sum(now: list[float], before: list[float], order: list[int]) -> None:
    def logps(values: list[float], pairs: list[int]) -> Logps:
        """Each pair is two answers of one token."""
        chosen = torch.arange(0, 8, 2)
        picked = [value for pair in pairs for value in values[2 * pair : 2 * pair + 2]]
        return Logps(torch.tensor(picked, dtype=torch.float64), torch.arange(8), 8, chosen, chosen + 1)

    for name in PAIRS:
        straight, shuffled = (
            objective_class(name)()(logps(now, pairs), logps(before, pairs))[0].sum().item()
            for pairs in ([0, 1, 2, 3], order)
        )
        assert shuffled == pytest.approx(straight, rel=1e-9, abs=1e-12), name


# scores, weights and references


@given(st.floats(-30, 30), st.floats(-5, 5))
def test_every_divergence_is_the_log_ratio_near_the_reference(ratio: float, alpha: float) -> None:
    """f'(1) is the same constant and f'' (1) = 1 for each, so scores agree to first order: s(r) = r + O(r^2)."""
    small = torch.tensor([ratio * 1e-6], dtype=torch.float64)
    for kind, slope in (("reverse_kl", 1), ("forward_kl", 1), ("js_divergence", 0.5), ("alpha_divergence", 1)):
        score = DPO(f_divergence_type=kind, f_alpha_divergence_coef=alpha)._score(small)  # type: ignore[arg-type]
        assert score.item() == pytest.approx(slope * small.item(), abs=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_alpha_divergence_ends_in_the_two_kls(alpha: float) -> None:
    ratios = torch.linspace(-9, 9, 31, dtype=torch.float64)
    bent = DPO(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=alpha)._score(ratios)
    named = DPO(f_divergence_type="reverse_kl" if alpha else "forward_kl")._score(ratios)
    assert torch.allclose(bent, named, rtol=1e-12, atol=1e-12)


def test_tokens_beyond_the_shorter_answer_count_alpha(pair_logps: Make) -> None:
    """Chosen -1, -2, -4 against a rejected of two tokens: -3 - 0.5 * 4 = -5; the reference's -1 - 1 - 0.5 = -2.5."""
    policy, _ = pair_logps([[-1, -2, -4]], [[-1, -1]])
    reference, _ = pair_logps([[-1, -1, -1]], [[-1, -1]])
    _, metrics = DPO(beta=1, ld_alpha=0.5)(policy, reference)
    assert metrics["rewards/chosen"].item() == pytest.approx(-5 + 2.5)
    assert metrics["rewards/rejected"].item() == 0
    assert metrics["logps/chosen"].item() == -7


@given(st.lists(st.floats(-9, 0), min_size=1, max_size=6), st.lists(st.floats(-9, 0), min_size=1, max_size=6))
def test_alpha_1_counts_all_tokens_alike(chosen: list[float], rejected: list[float]) -> None:
    values = torch.tensor(chosen + rejected, dtype=torch.float64)
    owners = torch.tensor([0] * len(chosen) + [1] * len(rejected))
    policy = Logps(values, owners, 2, torch.tensor([0]), torch.tensor([1]))
    reference = Logps(values * 0.5, owners, 2, torch.tensor([0]), torch.tensor([1]))
    assert DPO(ld_alpha=1)(policy, reference)[0].item() == DPO()(policy, reference)[0].item()


def test_an_answer_in_several_pairs_is_cut_at_each_pairs_own_length() -> None:
    """Three ranked answers of 3, 1 and 2 tokens at -1: the first is cut at 1 in one pair and at 2 in the other."""
    owners = torch.tensor([0, 0, 0, 1, 2, 2])
    chosen, rejected = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
    policy = Logps(torch.full((6,), -1.0), owners, 3, chosen, rejected)
    reference = Logps(torch.zeros(6), owners, 3, chosen, rejected)
    _, metrics = DPO(beta=1, ld_alpha=0)(policy, reference)
    assert metrics["rewards/chosen"].tolist() == [-1, -2, -1]
    assert metrics["rewards/rejected"].tolist() == [-1, -2, -1]


def test_a_pair_weighs_what_the_policy_would_write_itself(pair_logps: Make) -> None:
    """p = 1/2 where sum p^2 is 3/8 weighs 4/3; p = 1/4 where it is 1/2 weighs 1/2: the pair 2/3, without gradient."""
    policy, leaf = pair_logps([[math.log(1 / 2)] * 2], [[math.log(1 / 4)]])
    collision = torch.tensor([math.log(3 / 8)] * 2 + [math.log(1 / 2)], dtype=torch.float64)
    weighing = Logps(leaf, policy.owners, policy.segments, policy.chosen, policy.rejected, collision=collision)
    losses, metrics = DPO(use_weighting=True)(weighing, policy.detach())
    assert metrics["weights"].item() == pytest.approx(2 / 3)
    assert losses.item() == pytest.approx(math.log(2) * 2 / 3)
    losses.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == pytest.approx([-0.05 * 2 / 3, -0.05 * 2 / 3, 0.05 * 2 / 3])


def test_weights_need_the_policys_collision(pair_logps: Make) -> None:
    policy, _ = pair_logps([[-1.0]], [[-1.0]])
    assert DPO(use_weighting=True).needs_collision
    assert not DPO().needs_collision
    with pytest.raises(ValueError, match="no collision"):
        DPO(use_weighting=True)(policy, policy.detach())


@pytest.mark.parametrize("name", MEASURED)
def test_the_reference_gets_no_gradient(pair_logps: Make, name: str) -> None:
    policy, _ = pair_logps([[-1.0, -2.0]], [[-0.5]])
    reference, leaf = pair_logps([[-2.0, -2.0]], [[-0.25]])
    assert objective_class(name).needs_reference
    objective_class(name)()(policy, reference.detach())[0].sum().backward()
    assert leaf.grad is None


def test_a_reference_moves_only_when_asked() -> None:
    assert DPO().moving_reference is None
    assert DPO(sync_ref_model=True, ref_model_sync_steps=64).moving_reference == MovingReference(0.6, 64)
    assert "ref_model_sync_steps" in DPO().idle
    assert "ref_model_sync_steps" not in DPO(sync_ref_model=True).idle


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ipo", {"beta": 0}), ("hinge", {"label_smoothing": 0.1}), ("robust", {"label_smoothing": 0.5}),
        ("exo_pair", {"label_smoothing": 0}), ("nca_pair", {"f_divergence_type": "forward_kl"}),
        ("bco_pair", {"f_divergence_type": "forward_kl"}), ("sppo_hard", {"f_alpha_divergence_coef": 0.1}),
        ("aot", {"use_weighting": True}), ("aot_unpaired", {"f_divergence_type": "forward_kl"}),
        ("apo_zero", {"label_smoothing": 0.1}), ("apo_down", {"beta": -1}), ("discopop", {"discopop_tau": 0}),
        ("discopop", {"discopop_tau": 1.5}), ("sigmoid_norm", {"ld_alpha": 1.1}), ("nll", {"beta": 0.1}),
        ("cpo", {"cpo_alpha": -1}), ("cpo", {"ld_alpha": 0.5}), ("simpo", {"simpo_gamma": -1}),
        ("orpo", {"sync_ref_model": True}), ("dpo", {"ref_model_mixup_alpha": 0}), ("dpo", {"f_divergence_type": "kl"}),
    ],
)  # fmt: skip
def test_impossible_or_idle_options_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        objective_class(name)(**wrong)


# weighted sums


def test_a_sum_is_the_weighted_losses_of_its_parts(pair_logps: Make) -> None:
    policy, _ = pair_logps([[-1, -2], [-3]], [[-0.5], [-0.5, -0.5]])
    reference, _ = pair_logps([[-2, -2], [-1]], [[-0.25], [-1, -2]])
    made = weighted_sum((("sigmoid", DPO), ("bco_pair", BCOPair), ("sft", NLL)))(loss_weights=[0.8, 0.2, 1.0])
    losses, metrics = made(policy, reference)
    parts = [part(policy, reference)[0] for part in (DPO(), BCOPair(beta=0.1), NLL())]
    assert losses.tolist() == pytest.approx((0.8 * parts[0] + 0.2 * parts[1] + parts[2]).tolist())
    assert metrics["loss/sigmoid"].tolist() == pytest.approx(parts[0].tolist())
    assert metrics["loss/bco_pair"].tolist() == pytest.approx(parts[1].tolist())
    assert metrics["loss/sft"].tolist() == pytest.approx(parts[2].tolist())
    assert metrics["rewards/chosen"].tolist() == pytest.approx([0.1, -0.2])


def test_a_sum_asks_for_what_its_parts_ask_for() -> None:
    plain = weighted_sum((("cpo", CPO), ("sft", NLL)))
    measured = weighted_sum((("sft", NLL), ("aot", AOT), ("ipo", IPO)))
    assert (plain.needs_reference, plain.whole_step, plain.unit) == (False, False, "pairs")
    assert (measured.needs_reference, measured.whole_step) == (True, True)
    assert measured(use_weighting=True).needs_collision
    assert not measured().needs_collision
    assert measured(sync_ref_model=True).moving_reference == MovingReference(0.6, 512)
    assert plain().moving_reference is None


def test_rewards_are_those_of_the_first_part_that_has_them(pair_logps: Make) -> None:
    policy, _ = pair_logps([[-1, -2]], [[-0.5]])
    _, metrics = weighted_sum((("sft", NLL), ("simpo", SimPO), ("cpo", CPO)))()(policy, None)
    assert metrics["rewards/chosen"].item() == pytest.approx(2 * -1.5)
    _, metrics = weighted_sum((("sft", NLL),))()(policy, None)
    assert "rewards/chosen" not in metrics
    assert metrics["nll"].item() == metrics["loss/sft"].item() == 1.5


def test_a_shared_key_has_the_first_default_that_suits_all_parts() -> None:
    made = weighted_sum((("sigmoid", DPO), ("exo_pair", EXOPair), ("bco_pair", BCOPair)))
    assert (made().model_dump()["beta"], made().model_dump()["label_smoothing"]) == (0.1, 0.001)
    assert made.shared_defaults == {
        "beta": "default of sigmoid (0.01 with bco_pair alone)",
        "label_smoothing": "default of exo_pair (0.0 with sigmoid alone)",
    }
    with pytest.raises(ValidationError, match="label_smoothing"):
        made(label_smoothing=0)


def test_a_key_is_idle_where_no_part_uses_it() -> None:
    made = weighted_sum((("sigmoid", DPO), ("bco_pair", BCOPair)))
    assert set(made().idle) == {"ref_model_mixup_alpha", "ref_model_sync_steps", "f_alpha_divergence_coef"}
    assert not made(sync_ref_model=True, f_divergence_type="alpha_divergence").idle


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"loss_weights": [1]}, "1 weights for 2 losses"),
        ({"loss_weights": [0, 0]}, "all weights are 0"),
        ({"loss_weights": [1, -1]}, "greater than or equal to 0"),
        ({"loss_weights": [1, True]}, "expected a number"),
        ({"loss_weights": [1, math.nan]}, "finite"),
        ({"loss_type": ["sigmoid", "ipo"]}, "this sum is of sigmoid, sft"),
        ({"lambda": 1}, "lambda"),
    ],
)
def test_impossible_sums_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        weighted_sum((("sigmoid", DPO), ("sft", NLL)))(**wrong)


def test_losses_counted_by_different_units_have_no_sum() -> None:
    with pytest.raises(ValueError, match="sigmoid by pairs, cpt by tokens: not one unit"):
        weighted_sum((("sigmoid", DPO), ("cpt", CPT)))


def test_a_sum_is_frozen_and_equal_to_another_of_the_same_values() -> None:
    parts = (("sigmoid", DPO), ("sft", NLL))
    assert weighted_sum(parts)(loss_weights=[1, 2]) == weighted_sum(parts)(loss_weights=[1, 2])
    with pytest.raises(ValidationError, match="frozen"):
        weighted_sum(parts)().beta = 2  # type: ignore[attr-defined]
