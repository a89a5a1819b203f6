"""Every loss on pairs against TRL 1.16's own code, which is handed the log-probabilities a model would give.

DPOTrainer._compute_loss runs unchanged on a stand-in for the model: an object that returns given `log_probs`. Where TRL
differs on purpose or breaks, the test says so and takes the paper's formula.
"""

import math
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from poise.batch.logps import Logps
from poise.batch.objective import Objective
from poise.batch.preference import DivergencePairs, Pairs, ReferencePairs, SeparatePairs
from poise.batch.weighted import weighted_sum
from poise.names import names_in
from poise.objectives.cpo import CPO
from poise.objectives.nll import NLL
from poise.objectives.simpo import SimPO
from poise.recipe_objective import objective_class

Answers = list[list[float]]
PAIRS = [name for name in names_in("poise.objectives") if issubclass(objective_class(name), Pairs)]
MEASURED = [name for name in PAIRS if issubclass(objective_class(name), ReferencePairs)]
BENT = [name for name in PAIRS if issubclass(objective_class(name), DivergencePairs)]
WEIGHED = [name for name in PAIRS if issubclass(objective_class(name), SeparatePairs)]
THEIRS = {"dpo": "sigmoid", "nll": "sft"}


@dataclass
class Case:
    """The token log-probabilities of some pairs under policy and reference, and log sum p^2 of the policy's tokens."""

    chosen: Answers
    rejected: Answers
    chosen_before: Answers
    rejected_before: Answers
    chosen_collision: Answers
    rejected_collision: Answers


def drawn(seed: int, scale: float = 1.0, lengths: tuple[int, int] = (1, 12), pairs: int = 5) -> Case:
    """Answers of random lengths; a token's log-probabilities lie between -4 scale and 0."""
    source = random.Random(seed)
    shapes = [[source.randint(*lengths) for _ in range(pairs)] for _ in range(2)]

    def answers(shape: list[int]) -> Answers:
        return [[-4 * scale * source.random() for _ in range(length)] for length in shape]

    return Case(*(answers(shape) for _ in range(3) for shape in shapes))


def moved(case: Case, by: float) -> Case:
    """The same with the reference at the policy, up to `by` nats a token."""

    def near(answers: Answers) -> Answers:
        return [[value - by * (index % 3 - 1) for index, value in enumerate(tokens)] for tokens in answers]

    return Case(
        case.chosen, case.rejected, near(case.chosen), near(case.rejected), case.chosen_collision,
        case.rejected_collision,
    )  # fmt: skip


CASES = {
    "random": drawn(0),
    "more pairs": drawn(1, pairs=9),
    "one token each": drawn(2, lengths=(1, 1)),
    "very unequal lengths": Case(*[[[-0.3] * 1, [-0.7] * 200], [[-0.2] * 200, [-0.9]]] * 3),
    "nearly equal": moved(drawn(3), 1e-9),
    "policy is the reference": moved(drawn(4), 0.0),
    "tiny": drawn(5, scale=1e-12),
    "certain": Case(*([[0.0], [0.0, 0.0]] for _ in range(6))),
    "large": drawn(6, scale=10),
}  # fmt: skip
HUGE = {"huge": drawn(7, scale=1e4), "huge, a pair": drawn(8, scale=1e3, pairs=1)}


def ours(case: Case, dtype: torch.dtype = torch.float64) -> tuple[Logps, Logps, Tensor]:
    """Policy and reference as poise lays them out (prompt, chosen, rejected of each pair), and the policy's leaf."""

    def flat(chosen: Answers, rejected: Answers) -> Tensor:
        pairs = zip(chosen, rejected, strict=True)
        return torch.tensor([value for pair in pairs for side in pair for value in side], dtype=dtype)

    lengths = [len(side) for pair in zip(case.chosen, case.rejected, strict=True) for side in pair]
    segments = torch.tensor([3 * pair + side for pair in range(len(case.chosen)) for side in (1, 2)])
    owners = torch.repeat_interleave(segments, torch.tensor(lengths))
    leaf = flat(case.chosen, case.rejected).requires_grad_()
    collision = flat(case.chosen_collision, case.rejected_collision)
    where: Any = (owners, 3 * len(case.chosen), segments[::2], segments[1::2])
    policy = Logps(leaf, *where, collision=collision)
    return policy, Logps(flat(case.chosen_before, case.rejected_before), *where), leaf


def trls(case: Case, dtype: torch.dtype = torch.float64, **settings: Any) -> tuple[float, Tensor, Mapping[str, float]]:
    """Loss, gradient in the order of `ours`, and metrics of TRL's DPOTrainer._compute_loss."""
    from trl import DPOTrainer

    answers = [*case.chosen, *case.rejected]
    width = max(map(len, answers))

    def padded(chosen: Answers, rejected: Answers) -> Tensor:
        return torch.tensor([tokens + [0.0] * (width - len(tokens)) for tokens in [*chosen, *rejected]], dtype=dtype)

    mask = torch.tensor([[0] + [1] * len(tokens) + [0] * (width - len(tokens)) for tokens in answers])
    leaf = padded(case.chosen, case.rejected).requires_grad_()
    policy = GivenModel(leaf, padded(case.chosen_collision, case.rejected_collision))
    trainer: Any = object.__new__(DPOTrainer)
    chosen: dict[str, Any] = {
        "beta": 0.1, "label_smoothing": 0.0, "ld_alpha": None, "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5, "use_weighting": False, "loss_types": ["sigmoid"], "loss_weights": None,
    } | settings  # fmt: skip
    tau = chosen.pop("discopop_tau", 0.05)
    chosen["loss_weights"] = chosen["loss_weights"] or [1.0] * len(chosen["loss_types"])
    vars(trainer).update(
        chosen, model=policy, ref_model=GivenModel(padded(case.chosen_before, case.rejected_before)),
        accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=tau), aux_loss_enabled=False,
        precompute_ref_logps=False, _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    inputs = {"input_ids": torch.ones_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask}
    loss = trainer._compute_loss(policy, inputs, return_outputs=False)
    loss.backward()
    assert leaf.grad is not None
    rows = [
        leaf.grad[side, : len(answers[side])] for n in range(len(case.chosen)) for side in (n, n + len(case.chosen))
    ]
    return loss.item(), torch.cat(rows), {name: values[0] for name, values in trainer._metrics["train"].items()}


class GivenModel(torch.nn.Module):
    """What a model with TRL's fused head gives, whatever it is asked."""

    is_gradient_checkpointing = False

    def __init__(self, log_probs: Tensor, collision: Tensor | None = None) -> None:
        super().__init__()
        self.outputs = SimpleNamespace(
            log_probs=log_probs, log_sum_sq_probs=collision, entropy=torch.zeros_like(log_probs),
            mean_logits=torch.zeros_like(log_probs), is_top1=torch.zeros_like(log_probs, dtype=torch.bool),
        )  # fmt: skip

    def forward(self, **inputs: Any) -> SimpleNamespace:
        return self.outputs


def compare(
    objective: Objective, case: Case, within: float = 1e-6, dtype: torch.dtype = torch.float64, **more: Any
) -> None:
    """Mean loss, every gradient and the metrics they share are TRL's."""
    keys = (
        "beta",
        "label_smoothing",
        "ld_alpha",
        "f_divergence_type",
        "f_alpha_divergence_coef",
        "use_weighting",
        "discopop_tau",
    )
    settings = {key: getattr(objective, key) for key in keys if hasattr(objective, key)} | more
    loss, gradient, metrics = trls(case, dtype, **settings)
    assert math.isfinite(loss)
    policy, reference, leaf = ours(case, dtype)
    losses, told = objective(policy, reference)
    (losses.sum() / len(losses)).backward()
    assert leaf.grad is not None
    assert losses.mean().item() == pytest.approx(loss, rel=within, abs=1e-12)
    largest = gradient.abs().max().item()
    assert (leaf.grad - gradient).abs().max().item() <= within * largest + 1e-15
    ties = told["rewards/margins"].abs().min() < 1e-12
    for name in told.keys() & metrics.keys():
        if name.startswith("logps/") and settings.get("ld_alpha") is not None:
            continue  # TRL logs the shortened sums; poise logs what the name says
        if name != "rewards/accuracies" or not ties:
            assert told[name].mean().item() == pytest.approx(metrics[name], rel=within, abs=1e-9), name


def made(name: str, **values: Any) -> Objective:
    """An objective with what it has of these values."""
    cls = objective_class(name)
    return cls(**{key: value for key, value in values.items() if key in cls.model_fields})


every_case = pytest.mark.parametrize("case", CASES)


@every_case
@pytest.mark.parametrize("name", MEASURED)
def test_every_loss_is_trls(name: str, case: str) -> None:
    compare(made(name), CASES[case], loss_types=[THEIRS.get(name, name)])


@pytest.mark.parametrize("beta", [0.001, 0.1, 2.0])
@pytest.mark.parametrize("name", MEASURED)
def test_beta_is_trls(name: str, beta: float) -> None:
    compare(made(name, beta=beta), CASES["random"], loss_types=[THEIRS.get(name, name)])


# TRL's discopop is inf x 0 where a margin is this negative: see the test with mpmath below
@pytest.mark.parametrize("case", HUGE)
@pytest.mark.parametrize("name", [name for name in MEASURED if name != "discopop"])
def test_huge_log_probabilities_give_trls_loss(name: str, case: str) -> None:
    compare(made(name), HUGE[case], loss_types=[THEIRS.get(name, name)])


@pytest.mark.parametrize("smoothing", [0.001, 0.2, 0.49])
@pytest.mark.parametrize("name", ["robust", "exo_pair", "aot", "aot_unpaired"])
def test_label_smoothing_is_trls(name: str, smoothing: float) -> None:
    """dpo's is in test_dpo.py: TRL ignores label_smoothing under sigmoid."""
    compare(made(name, label_smoothing=smoothing), CASES["random"], loss_types=[name])


@every_case
@pytest.mark.parametrize("tau", [0.01, 0.2, 1.0])
def test_the_blend_of_discopop_is_trls(tau: float, case: str) -> None:
    compare(made("discopop", discopop_tau=tau), CASES[case], loss_types=["discopop"])


# options that several losses have


@every_case
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["dpo", "ipo", "bco_pair", "aot"])
def test_length_desensitised_sums_are_trls(name: str, alpha: float, case: str) -> None:
    compare(made(name, ld_alpha=alpha), CASES[case], loss_types=[THEIRS.get(name, name)])


@pytest.mark.parametrize("name", MEASURED)
def test_every_loss_takes_length_desensitised_sums(name: str) -> None:
    compare(made(name, ld_alpha=0.4), CASES["random"], loss_types=[THEIRS.get(name, name)])


@every_case
@pytest.mark.parametrize("name", ["dpo", "apo_down"])
def test_the_weights_of_wpo_are_trls(name: str, case: str) -> None:
    compare(made(name, use_weighting=True), CASES[case], loss_types=[THEIRS.get(name, name)])


@pytest.mark.parametrize("name", [name for name in WEIGHED if name != "hinge"])
def test_every_loss_on_single_pairs_takes_weights(name: str) -> None:
    compare(made(name, use_weighting=True), CASES["random"], loss_types=[THEIRS.get(name, name)])


def test_hinge_takes_weights_where_trl_cannot() -> None:
    """TRL multiplies relu's output in place, which autograd refuses."""
    policy, reference, leaf = ours(CASES["random"])
    weights = made("dpo", use_weighting=True)(policy, reference)[1]["weights"]
    losses, _ = made("hinge", use_weighting=True)(policy, reference)
    bare, _ = made("hinge")(policy, reference)
    assert losses.tolist() == pytest.approx((bare * weights).tolist())
    losses.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    with pytest.raises(RuntimeError, match="inplace"):
        trls(CASES["random"], loss_types=["hinge"], use_weighting=True)


def test_only_losses_that_sort_take_no_weights() -> None:
    """TRL refuses them too: a sorted loss belongs to no pair."""
    assert set(MEASURED) - set(WEIGHED) == {"aot", "aot_unpaired"}


def test_the_losses_that_take_a_divergence_are_trls() -> None:
    """DPOTrainer names them; `sft` there is without effect, and nll has no such key."""
    import inspect
    import re

    from trl import DPOTrainer

    (told,) = re.findall(r"f_divergence_loss_types = \{(.*?)\}", inspect.getsource(DPOTrainer.__init__))
    assert {THEIRS.get(name, name) for name in BENT} | {"sft"} == set(re.findall(r'"(\w+)"', told))


@pytest.mark.parametrize(
    "case", ["random", "very unequal lengths", "nearly equal", "policy is the reference", "certain"]
)
@pytest.mark.parametrize("divergence", ["forward_kl", "js_divergence"])
@pytest.mark.parametrize("name", BENT)
def test_divergences_are_trls(name: str, divergence: str, case: str) -> None:
    compare(made(name, f_divergence_type=divergence, beta=0.1), CASES[case], loss_types=[THEIRS.get(name, name)])


@pytest.mark.parametrize("alpha", [-0.5, 0.5, 0.9999999, 1.0, 1.5])
@pytest.mark.parametrize("name", ["dpo", "hinge"])
def test_the_alpha_divergence_is_trls(name: str, alpha: float) -> None:
    """TRL has it in float32 only, as e^x - 1, which loses digits; so 1e-5 here and the formula in float64 below."""
    objective = made(name, f_divergence_type="alpha_divergence", f_alpha_divergence_coef=alpha)
    compare(objective, CASES["random"], 1e-5, torch.float32, loss_types=[THEIRS.get(name, name)])


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.5, 1.5])
@pytest.mark.parametrize("case", ["random", "one token each", "tiny"])
def test_the_alpha_divergence_is_the_formula(alpha: float, case: str) -> None:
    """f'(u) = (u^(a - 1) - 1) / (a - 1); a = 0 is the forward KL's 1 - 1/u, a = 1/2 is 2 - 2 / sqrt(u)."""
    import mpmath

    data = CASES[case]
    losses, _ = made("dpo", beta=0.1, f_divergence_type="alpha_divergence", f_alpha_divergence_coef=alpha)(
        *ours(data)[:2]
    )
    with mpmath.workdps(60):
        for index, loss in enumerate(losses.tolist()):
            sides = ((data.chosen, data.chosen_before), (data.rejected, data.rejected_before))
            ratios = [mpmath.fsum(now[index]) - mpmath.fsum(before[index]) for now, before in sides]
            chosen, rejected = ((mpmath.exp(ratio * (alpha - 1)) - 1) / (alpha - 1) for ratio in ratios)
            expected = mpmath.log(1 + mpmath.exp(-(chosen - rejected) / 10))
            assert loss == pytest.approx(float(expected), rel=1e-9)


# weighted sums


SUMS: dict[str, list[float]] = {
    "sigmoid,bco_pair": [0.8, 0.2],
    "sigmoid,hinge,apo_zero": [1, 0.5, 2],
    "aot,ipo": [1, 1],
}


@every_case
@pytest.mark.parametrize("losses", SUMS)
def test_weighted_sums_are_trls(losses: str, case: str) -> None:
    objective = summed(losses)(loss_weights=SUMS[losses])
    compare(objective, CASES[case], loss_types=losses.split(","), loss_weights=SUMS[losses])


def summed(losses: str) -> Any:
    known = {theirs: name for name, theirs in THEIRS.items()}
    return weighted_sum(tuple((name, objective_class(known.get(name, name))) for name in losses.split(",")))


def test_a_sum_with_weights_of_pairs_and_shorter_tails_is_trls() -> None:
    objective = summed("sigmoid,bco_pair")(use_weighting=True, ld_alpha=0.5)
    compare(objective, CASES["random"], loss_types=["sigmoid", "bco_pair"])


EQUAL = Case(*([[value] * 3, [value / 2] * 3] for value in (-0.5, -1.0, -0.6, -0.9, -0.4, -0.8)))


def test_mpo_is_trls_where_answers_are_equally_long() -> None:
    """MPO: arXiv:2411.10442, weights 0.8, 0.2 and 1."""
    objective = summed("sigmoid,bco_pair,sft")(loss_weights=[0.8, 0.2, 1.0])
    compare(objective, EQUAL, loss_types=["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0])


def test_the_likelihood_term_counts_every_answer_alike_where_trl_counts_every_token_alike() -> None:
    """MPO divides by |y_c| and RPO by |y|, each pair for itself; TRL pools the tokens of the batch it happens to have.

    Chosen answers of 1 token at -0.3 and of 200 at -0.7: (0.3 + 0.7) / 2 here, (0.3 + 140) / 201 in TRL.
    """
    case = CASES["very unequal lengths"]
    policy, reference, _ = ours(case)
    losses, _ = NLL()(policy, reference)
    assert losses.mean().item() == pytest.approx(0.5)
    assert trls(case, loss_types=["sft"])[0] == pytest.approx(140.3 / 201)


def test_weights_of_pairs_leave_the_likelihood_term_alone() -> None:
    """TRL would weigh it too; WPO's weights (arXiv:2406.11827) are of the preference loss."""
    policy, reference, _ = ours(EQUAL)
    both, _ = summed("sigmoid,sft")(use_weighting=True)(policy, reference)
    one, _ = made("dpo", use_weighting=True)(policy, reference)
    assert (both - one).tolist() == pytest.approx(NLL()(policy, reference)[0].tolist())


# without a reference: TRL's experimental CPO trainer


@pytest.fixture
def cpo_loss() -> Any:
    """TRL's CPOTrainer.cpo_loss under given settings, without its likelihood term."""
    from trl.experimental.cpo import CPOTrainer

    def loss(chosen: Tensor, rejected: Tensor, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
        trainer: Any = object.__new__(CPOTrainer)
        vars(trainer).update(alpha=0.0, accelerator=SimpleNamespace(device="cpu"), **settings)
        return trainer.cpo_loss(chosen, rejected)

    return loss


TRL_KEEPS_IT_AMONG_ITS_EXPERIMENTS = pytest.mark.filterwarnings("ignore::trl.import_utils.TRLExperimentalWarning")


@TRL_KEEPS_IT_AMONG_ITS_EXPERIMENTS
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("case", CASES | HUGE)
def test_simpo_is_trls(cpo_loss: Any, case: str, smoothing: float) -> None:
    objective = SimPO(label_smoothing=smoothing, simpo_gamma=1.2)
    policy, _, leaf = ours((CASES | HUGE)[case])
    losses, metrics = objective(policy, None)
    losses.sum().backward()
    again, _, theirs = ours((CASES | HUGE)[case])
    expected, chosen, rejected = cpo_loss(
        *again.pairs(again.mean()), loss_type="simpo", beta=2.0, simpo_gamma=1.2, label_smoothing=smoothing
    )
    expected.sum().backward()
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    assert metrics["rewards/chosen"].tolist() == pytest.approx(chosen.tolist())
    assert metrics["rewards/rejected"].tolist() == pytest.approx(rejected.tolist())
    assert torch.allclose(leaf.grad, theirs.grad, rtol=1e-9, atol=1e-15)  # type: ignore[arg-type]


@TRL_KEEPS_IT_AMONG_ITS_EXPERIMENTS
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("case", CASES | HUGE)
def test_the_contrast_of_cpo_is_trls(cpo_loss: Any, case: str, smoothing: float) -> None:
    policy, _, leaf = ours((CASES | HUGE)[case])
    losses, metrics = CPO(cpo_alpha=0, label_smoothing=smoothing)(policy, None)
    losses.sum().backward()
    again, _, theirs = ours((CASES | HUGE)[case])
    expected, chosen, _ = cpo_loss(*again.pairs(again.sum()), loss_type="sigmoid", beta=0.1, label_smoothing=smoothing)
    expected.sum().backward()
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    assert metrics["rewards/chosen"].tolist() == pytest.approx(chosen.tolist())
    assert torch.allclose(leaf.grad, theirs.grad, rtol=1e-9, atol=1e-15)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", [CPO(), CPO(cpo_alpha=0.3), SimPO(cpo_alpha=0.3), SimPO(cpo_alpha=1)])
def test_the_likelihood_of_the_chosen_answer_is_added(objective: CPO | SimPO) -> None:
    """TRL pools it over the batch and counts the prompt's tokens in; the ALMA-R code and poise count the answer's."""
    policy, _, _ = ours(CASES["random"])
    losses, metrics = objective(policy, None)
    bare, _ = objective.model_copy(update={"cpo_alpha": 0.0})(policy, None)
    nll = torch.tensor([-math.fsum(tokens) / len(tokens) for tokens in CASES["random"].chosen], dtype=torch.float64)
    assert (losses - bare).tolist() == pytest.approx((objective.cpo_alpha * nll).tolist())
    assert metrics["nll"].tolist() == pytest.approx(nll.tolist())


# where nothing else can be asked


@pytest.mark.parametrize("margin", [-1e4, -750, -20, -1e-3, 0, 1e-3, 20, 750, 1e4])
def test_discopop_is_its_formula_where_trl_overflows(margin: float) -> None:
    """Equation 5 of arXiv:2406.08414 in 60 digits. TRL's e^-m times sigmoid(m / tau) is inf x 0 from m = -710 on."""
    import mpmath

    case = Case([[min(margin, 0.0)]], [[-max(margin, 0.0)]], [[0.0]], [[0.0]], [[0.0]], [[0.0]])
    policy, reference, leaf = ours(case)
    losses, _ = made("discopop", beta=1.0)(policy, reference)
    losses.sum().backward()
    with mpmath.workdps(60):
        formula = _discopop
        assert losses.item() == pytest.approx(float(formula(mpmath.mpf(margin))), rel=1e-9, abs=1e-300)
        slope = float(mpmath.diff(formula, mpmath.mpf(margin)))
    assert leaf.grad is not None
    assert leaf.grad.tolist() == pytest.approx([slope, -slope], rel=1e-6, abs=1e-12)


def _discopop(margin: Any) -> Any:
    import mpmath

    gate = 1 / (1 + mpmath.exp(-20 * margin))
    return (1 - gate) * mpmath.log(1 + mpmath.exp(-margin)) + gate * mpmath.exp(-margin)


EXTREMES: dict[str, tuple[Answers, Answers]] = {
    "huge": ([[-1e4] * 9], [[-1e4] * 3]),
    "astronomic": ([[-1e15]], [[-1.0]]),
    "the other way round": ([[-1.0]], [[-1e15]]),
    "tiny": ([[-1e-12]], [[-1e-30]]),
    "certain": ([[0.0]], [[0.0]]),
    "equal": ([[-2.5, -1.0]], [[-2.5, -1.0]]),
    "200 tokens and one": ([[-3.0] * 200], [[-0.1]]),
}
DIVERGENCES: list[dict[str, Any]] = [
    {"f_divergence_type": "forward_kl"},
    {"f_divergence_type": "js_divergence"},
    {"f_divergence_type": "alpha_divergence"},
    {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 3.0},
]
SETTINGS = [(name, {}) for name in PAIRS] + [(name, options) for name in BENT for options in DIVERGENCES]


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_loss_and_gradient_are_finite_in_float32(name: str, options: dict[str, Any], extreme: str) -> None:
    chosen, rejected = EXTREMES[extreme]
    before: tuple[Answers, Answers] = ([[-1.0] * len(chosen[0])], [[-1.0] * len(rejected[0])])
    policy, reference, leaf = ours(Case(chosen, rejected, *before, *before), torch.float32)
    losses, metrics = made(name, **options)(policy, reference)
    losses.sum().backward()
    assert leaf.grad is not None
    assert losses.isfinite().all()
    assert leaf.grad.isfinite().all()
    assert all(values.isfinite().all() for values in metrics.values())
    assert not any(values.requires_grad for values in metrics.values())
