"""KTO and unpaired APO-zero by hand, and beside TRL's own loss (arXiv:2402.01306, equations 7 and 8; 2408.06266)."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from poise.batch.logps import Logps, side_by_side
from poise.batch.row import Label, Row, Segment
from poise.batch.unpaired import UnpairedAnswers
from poise.objectives.apo_zero_unpaired import APOZeroUnpaired
from poise.objectives.kto import KTO

Tokens = Sequence[Sequence[float]]


def logps(
    answers: Tokens, desirable: Sequence[bool], others: Tokens = (), dtype: torch.dtype = torch.float64
) -> tuple[Logps, Tensor]:
    """Make Logps of one prompt (segment 0), labelled answers and other rows' answers; and the leaf of their values."""
    spelled = [*answers, *others]
    leaf = torch.tensor([value for tokens in spelled for value in tokens], dtype=dtype, requires_grad=True)
    owners = torch.tensor([index for index, tokens in enumerate(spelled, start=1) for _ in tokens])
    made = Logps(
        leaf, owners, 1 + len(spelled), chosen=torch.zeros(0, dtype=torch.int64),
        rejected=torch.zeros(0, dtype=torch.int64), labeled=torch.arange(1, 1 + len(answers)),
        desirable=torch.tensor(desirable), mismatched=torch.arange(1 + len(answers), 1 + len(spelled)),
    )  # fmt: skip
    return made, leaf


def mean_of(metric: Tensor) -> float:
    """Read a metric (items, 2) as the trainer does: values over the marked items."""
    return float(metric[:, 0].sum() / metric[:, 1].sum())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_loss_of_three_answers_around_the_divergence() -> None:
    """beta = 0.5, weights 1 and 2; sums over tokens.

    log-ratios: (-1 - 2) - (-4) = 1, -3 - (-1) = -2, -1 - (-1.5) = 0.5; z = ((-2 - (-3)) + (-1 - (-1))) / 2 = 0.5
    desirable:    1 - sigmoid(0.5 (1 - 0.5))  = sigmoid(-0.25),  1 - sigmoid(0.5 (-2 - 0.5)) = sigmoid(1.25)
    undesirable:  2 (1 - sigmoid(0.5 (0.5 - 0.5))) = 1
    """
    labels = [True, True, False]
    policy, _ = logps([[-1, -2], [-3], [-1]], labels, [[-1, -1], [-1]])
    reference, _ = logps([[-2, -2], [-1], [-1.5]], labels, [[-2, -1], [-1]])
    losses, metrics = KTO(beta=0.5, undesirable_weight=2)(policy, reference.detach())
    assert losses.tolist() == pytest.approx([sigmoid(-0.25), sigmoid(1.25), 1.0], rel=1e-12)
    assert metrics["kl"].tolist() == pytest.approx([0.5] * 3)
    assert mean_of(metrics["rewards/chosen"]) == pytest.approx(0.5 * (1 - 2) / 2)
    assert mean_of(metrics["rewards/rejected"]) == pytest.approx(0.25)
    assert mean_of(metrics["logps/chosen"]) == pytest.approx(-3)
    assert mean_of(metrics["logps/rejected"]) == pytest.approx(-1)
    assert not any(values.requires_grad for values in metrics.values())


def test_without_pairs_to_estimate_from_the_anchor_is_the_reference() -> None:
    """beta = 0.5: desirable 1 - sigmoid(0.5 * 1), undesirable sigmoid(0.5 * 0.5)."""
    policy, _ = logps([[-1, -2], [-1]], [True, False])
    reference, _ = logps([[-2, -2], [-1.5]], [True, False])
    losses, metrics = APOZeroUnpaired(beta=0.5)(policy, reference.detach())
    assert losses.tolist() == pytest.approx([sigmoid(-0.5), sigmoid(0.25)], rel=1e-12)
    assert "kl" not in metrics


def test_the_divergence_is_never_below_zero_and_has_no_gradient() -> None:
    policy, leaf = logps([[-1.0], [-1.0]], [True, False], [[-3.0]])
    reference, _ = logps([[-1.0], [-1.0]], [True, False], [[-1.0]])
    losses, metrics = KTO()(policy, reference.detach())
    assert metrics["kl"].tolist() == [0, 0]
    assert losses.tolist() == [0.5, 0.5]
    losses.sum().backward()
    assert leaf.grad is not None
    # the slope is -beta v (1 - v) = -0.1 / 4 for a desirable answer, 0.1 / 4 for the other, 0 for another row's
    assert leaf.grad.tolist() == pytest.approx([-0.025, 0.025, 0.0])


def test_a_step_of_several_micro_batches_has_one_divergence() -> None:
    """z = ((-1 - -2) + (-1 - -4)) / 2 = 2 over both; of the first alone it would be 1."""
    parts = [logps([[-1.0]], [label], [[-1.0]])[0] for label in (True, False)]
    references = [logps([[-1.0]], [True], [[other]])[0].detach() for other in (-2.0, -4.0)]
    _, metrics = KTO()(side_by_side(parts), side_by_side(references))
    assert metrics["kl"].tolist() == [2, 2]


def test_kto_without_other_rows_answers_is_refused() -> None:
    policy, _ = logps([[-1.0]], [True])
    with pytest.raises(ValueError, match="no mismatched answers"):
        KTO()(policy, policy.detach())


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"desirable_weight": 0}, {"undesirable_weight": -1}, {"betta": 0.1}])
def test_impossible_hyperparameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        KTO(**wrong)


# What it says of its data --------------------------------------------------------------------------------------------


def rows(desirable: int, undesirable: int) -> list[Row]:
    ids, trained = np.arange(2, dtype=np.int32), np.ones(2, np.bool_)
    labels: list[Label] = [
        "desirable" if index < desirable else "undesirable" for index in range(desirable + undesirable)
    ]
    return [
        Row(str(index), (Segment(ids, ~trained), Segment(ids, trained, 0, label=label)))
        for index, label in enumerate(labels)
    ]


def test_balanced_data_need_no_remark() -> None:
    assert KTO().remarks(rows(4, 4)) == []
    assert KTO().remarks(rows(4, 3)) == []  # 4 / 3 is the most the paper advises
    assert KTO(undesirable_weight=4).remarks(rows(4, 1)) == []


def test_data_out_of_balance_are_told_with_the_weight_that_mends_them() -> None:
    """n_U w_U / n_D = 2 * 1 / 8 = 0.25, and 4/3 of it is 0.333."""
    (remark,) = KTO().remarks(rows(8, 2))
    assert "8 desirable and 2 undesirable answers weigh 4.00 to 1" in remark
    assert "desirable_weight between 0.25 and 0.333" in remark
    assert KTO(desirable_weight=0.3).remarks(rows(8, 2)) == []


@pytest.mark.parametrize(("counts", "told"), [((3, 0), "all 3 answers are desirable"), ((0, 3), "are undesirable")])
def test_data_of_one_label_are_told(counts: tuple[int, int], told: str) -> None:
    (remark,) = KTO().remarks(rows(*counts))
    assert told in remark


# Beside TRL ----------------------------------------------------------------------------------------------------------


class Table:
    """Stands where TRL has a model: returns given log-probabilities, those of mismatched sequences for ids of 1."""

    training = True

    def __init__(self, answers: Tensor, others: Tensor) -> None:
        self.answers, self.others = answers, others

    def __call__(self, input_ids: Tensor, **_: Any) -> Any:
        values = self.others if bool(input_ids[0, 0] == 1) else self.answers
        return SimpleNamespace(log_probs=values, entropy=torch.zeros_like(values), mean_logits=torch.zeros_like(values))


def trl_loss(
    objective: UnpairedAnswers, policy: Logps, reference: Logps, answers: int
) -> tuple[Tensor, dict[str, Any]]:
    """Return TRL's loss of a batch of given log-probabilities, and the metrics it logs."""
    from collections import defaultdict

    from accelerate import Accelerator
    from trl.trainer.kto_trainer import KTOTrainer

    trainer: Any = KTOTrainer.__new__(KTOTrainer)
    trainer.accelerator = Accelerator(cpu=True)
    trainer.beta = objective.beta
    trainer.desirable_weight, trainer.undesirable_weight = objective.desirable_weight, objective.undesirable_weight
    trainer.calculate_KL = isinstance(objective, KTO)
    trainer.loss_type = "kto" if trainer.calculate_KL else "apo_zero_unpaired"
    trainer.precompute_ref_logps, trainer.aux_loss_enabled = True, False
    trainer._metrics, trainer._total_train_tokens, trainer._tp_size = {"train": defaultdict(list)}, 0, 1
    sums, frozen = policy.sum()[1:, None], reference.sum()[1:].detach()
    trainer.model = Table(sums[:answers], sums[answers:])
    ids = torch.zeros(answers, 2, dtype=torch.int64)
    inputs = {"label": policy.desirable, "ref_logps": frozen[:answers], "ref_KL_logps": frozen[answers:]}
    for prefix, value in (("", 0), ("KL_", 1)):
        inputs[f"{prefix}input_ids"] = ids + value
        inputs[f"{prefix}attention_mask"] = torch.ones_like(ids)
        inputs[f"{prefix}completion_mask"] = torch.tensor([[0, 1]] * answers)
    loss = trainer._compute_loss(trainer.model, inputs, return_outputs=False)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def random_case(seed: int) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> list[list[float]]:
        lengths = torch.randint(1, 9, (count,), generator=chance).tolist()
        return [(-5 * torch.rand(length, generator=chance, dtype=torch.float64)).tolist() for length in lengths]

    count = 2 + seed % 7
    desirable = torch.rand(count, generator=chance) < 0.5
    if seed % 5 == 0:
        desirable[:] = seed % 2 == 0  # one label alone
    answers, others = tokens(count), tokens(count)
    moved = [[[value + math.sin(31 * value) for value in each] for each in part] for part in (answers, others)]
    return {"policy": (answers, others), "reference": moved, "desirable": desirable.tolist()}


EXTREMES: dict[str, dict[str, Any]] = {
    "far above": {"policy": ([[-1.0]] * 2, [[-1.0]] * 2), "reference": ([[-500.0]] * 2, [[-90.0]] * 2)},
    "far below": {"policy": ([[-500.0]] * 2, [[-500.0]] * 2), "reference": ([[-1.0]] * 2, [[-1.0]] * 2)},
    "a huge divergence": {"policy": ([[-1.0]] * 2, [[-1.0]] * 2), "reference": ([[-1.0]] * 2, [[-3e3]] * 2)},
    "no difference": {"policy": ([[-2.5]] * 2, [[-2.5]] * 2), "reference": ([[-2.5]] * 2, [[-2.5]] * 2)},
    "certain": {"policy": ([[0.0]] * 2, [[0.0]] * 2), "reference": ([[-1e-12]] * 2, [[-1e-300]] * 2)},
}
CASES: list[dict[str, Any]] = [
    *({**case, "desirable": [True, False]} for case in EXTREMES.values()),
    *map(random_case, range(40)),
]
OBJECTIVES = [
    KTO(),
    KTO(beta=0.7, desirable_weight=1.33, undesirable_weight=0.5),
    APOZeroUnpaired(beta=0.3),
    APOZeroUnpaired(desirable_weight=2.0),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: f"{type(each).__name__}-{each.beta}")
def test_loss_gradient_and_metrics_are_trls(objective: UnpairedAnswers) -> None:
    """In float64; TRL computes 1 - sigmoid(x), which rounds at 1e-16 where sigmoid(-x) is exact: hence the abs."""
    for case in CASES:
        (answers, others), desirable = case["policy"], case["desirable"]
        policy, leaf = logps(answers, desirable, others)
        theirs, their_leaf = logps(answers, desirable, others)
        reference = logps(case["reference"][0], desirable, case["reference"][1])[0].detach()
        losses, metrics = objective(policy, reference)
        expected, their_metrics = trl_loss(objective, theirs, reference, len(answers))
        losses.mean().backward()
        expected.backward()
        assert losses.mean().item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-15), case
        assert leaf.grad is not None
        assert their_leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert torch.allclose(leaf.grad, their_leaf.grad, rtol=1e-6, atol=1e-15), case
        for name in ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
            if name in their_metrics:
                assert mean_of(metrics[name]) == pytest.approx(their_metrics[name], rel=1e-6, abs=1e-12), name
            else:
                assert metrics[name].sum() == 0
        if isinstance(objective, KTO):
            assert metrics["kl"][0].item() == pytest.approx(their_metrics["kl"], rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("objective", [KTO(), APOZeroUnpaired()], ids=lambda each: type(each).__name__)
def test_loss_and_gradient_are_finite_in_float32(objective: UnpairedAnswers, case: str) -> None:
    sides = EXTREMES[case]
    for scale in (1.0, 1e20):
        (policy, leaf), (reference, _) = (
            logps([[scale * value for value in each] for each in sides[side][0]], [True, False],
                  [[scale * value for value in each] for each in sides[side][1]], torch.float32)
            for side in ("policy", "reference")
        )  # fmt: skip
        losses, metrics = objective(policy, reference.detach())
        losses.sum().backward()
        assert leaf.grad is not None
        assert losses.isfinite().all()
        assert leaf.grad.isfinite().all()
        assert all(values.isfinite().all() for values in metrics.values())
