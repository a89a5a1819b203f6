"""What preference objectives with a reference have in common: scores of each answer, and weights of each pair.

    score(y) = log pi(y|x) - log ref(y|x)        the log-ratio r; under other f-divergences f'(e^r), f-DPO below

- f-DPO (Wang et al. 2023, arXiv:2309.16240, equation 6): f'(u) for u = pi / ref is 1 - 1/u for the forward KL,
  log(2u / (1 + u)) for Jensen-Shannon, (u^(a - 1) - 1) / (a - 1) for the alpha-divergence; log u, up to a constant that
  cancels in a pair, for the reverse KL of DPO.
- LD-DPO (Liu et al. 2024, arXiv:2409.06411, equation 10): tokens beyond the length of the shorter answer count `ld_alpha`.
- WPO (Zhou et al. 2024, arXiv:2406.11827, equation 2): a pair weighs w(chosen) w(rejected), the geometric mean over an
  answer's tokens of pi(y_t) / sum_v pi(v)^2: how likely the policy itself is to write it.
- TR-DPO: see train/moving.py.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from poise.batch.logps import Logps, preference_metrics
from poise.batch.objective import MovingReference, Objective, Unit


@dataclass(frozen=True, eq=False)
class Answers:
    """What one side of the pairs comes to, each (pairs,)."""

    policy: Tensor
    """log pi(y|x) in nats."""
    reference: Tensor
    """log ref(y|x) in nats."""
    length: Tensor
    """Trained tokens, as floats, at least 1."""

    @property
    def ratio(self) -> Tensor:
        """log pi(y|x) - log ref(y|x)."""
        return self.policy - self.reference


class ReferencePairs(Objective):
    """Base of the losses on pairs that are measured from a reference."""

    unit: ClassVar[Unit] = "pairs"
    rows: ClassVar[tuple[str, ...]] = ("preference_pair",)
    needs_reference: ClassVar[bool] = True

    beta: float = Field(default=0.1, gt=0)
    """How strongly the policy is held to the reference."""
    ld_alpha: float | None = Field(default=None, ge=0, le=1)
    """Weight of the tokens beyond the length of the shorter answer; None, like 1, counts all alike."""
    use_weighting: bool = False
    """Weigh each pair by how likely the policy is to write it (WPO)."""
    sync_ref_model: bool = False
    """Let the reference follow the policy (TR-DPO)."""
    ref_model_mixup_alpha: float = Field(default=0.6, gt=0, le=1)
    """Share of the policy in the moved reference."""
    ref_model_sync_steps: int = Field(default=512, ge=1)
    """Updates between two moves."""

    @property
    def needs_collision(self) -> bool:
        """WPO aligns with what the policy itself would sample."""
        return self.use_weighting

    @property
    def moving_reference(self) -> MovingReference | None:
        """How the reference follows the policy."""
        moves = MovingReference(self.ref_model_mixup_alpha, self.ref_model_sync_steps)
        return moves if self.sync_ref_model else None

    @abstractmethod
    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), in nats."""

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (pairs,) in nats and metrics, each (pairs,)."""
        assert reference is not None
        chosen, rejected = answers(policy, reference, self.ld_alpha)
        losses = self.losses(chosen, rejected)
        metrics = preference_metrics(policy, self.beta * chosen.ratio, self.beta * rejected.ratio)
        if self.use_weighting:
            weights = likely_under_itself(policy)
            losses, metrics["weights"] = losses * weights, weights
        return losses, metrics


Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]


class DivergencePairs(ReferencePairs):
    """Base of those that compare scores, which another f-divergence than the reverse KL bends."""

    f_divergence_type: Divergence = "reverse_kl"
    """How the distance to the reference is measured; DPO's own is the reverse KL."""
    f_alpha_divergence_coef: float = 0.5
    """The alpha of alpha_divergence; 1 is the reverse KL, 0 the forward KL."""

    def scores(self, chosen: Answers, rejected: Answers) -> tuple[Tensor, Tensor]:
        """Return (chosen, rejected) scores, each (pairs,)."""
        return self._score(chosen.ratio), self._score(rejected.ratio)

    def margins(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return beta (score of chosen - score of rejected), (pairs,)."""
        score_chosen, score_rejected = self.scores(chosen, rejected)
        return self.beta * (score_chosen - score_rejected)

    def _score(self, ratio: Tensor) -> Tensor:
        if self.f_divergence_type == "js_divergence":
            return math.log(2) + F.logsigmoid(ratio)
        alpha = {"reverse_kl": 1.0, "forward_kl": 0.0}.get(self.f_divergence_type, self.f_alpha_divergence_coef)
        if abs(alpha - 1) < 1e-6:
            return ratio
        return torch.expm1(_exponent(ratio * (alpha - 1))) / (alpha - 1)


def answers(policy: Logps, reference: Logps, ld_alpha: float | None = None) -> tuple[Answers, Answers]:
    """Gather (chosen, rejected) of a batch's pairs."""
    lengths = policy.pairs(policy.length().clamp(min=1))
    if ld_alpha is None or ld_alpha == 1:
        of_policy, of_reference = policy.pairs(policy.sum()), policy.pairs(reference.sum())
    else:
        of_policy, of_reference = _length_desensitised(policy, ld_alpha), _length_desensitised(reference, ld_alpha)
    chosen, rejected = (Answers(*each) for each in zip(of_policy, of_reference, lengths, strict=True))
    return chosen, rejected


def likely_under_itself(policy: Logps) -> Tensor:
    """WPO's weight of each pair, (pairs,), without gradient."""
    if policy.collision is None:
        raise ValueError("these Logps carry no collision; the scorer must be told to compute it")
    aligned = policy.values.detach() - policy.collision
    sums = aligned.new_zeros(policy.segments).index_add(0, policy.owners, aligned)
    chosen, rejected = policy.pairs(sums / policy.length().clamp(min=1))
    return torch.exp(chosen + rejected)


def _length_desensitised(logps: Logps, alpha: float) -> tuple[Tensor, Tensor]:
    """Sum each side of the pairs, its tokens beyond the shorter answer's length weighing alpha."""
    counts = torch.bincount(logps.owners, minlength=logps.segments)
    shared = torch.minimum(*logps.pairs(counts))
    return _cut_sum(logps, logps.chosen, shared, counts, alpha), _cut_sum(logps, logps.rejected, shared, counts, alpha)


def _cut_sum(logps: Logps, side: Tensor, shared: Tensor, counts: Tensor, alpha: float) -> Tensor:
    """Sum one side, (pairs,); an answer that stands in several pairs is cut at each pair's own length."""
    lengths = counts[side]
    pair = torch.repeat_interleave(torch.arange(len(side), device=side.device), lengths)
    place = torch.arange(len(pair), device=side.device) - (lengths.cumsum(0) - lengths)[pair]
    token = (counts.cumsum(0) - counts)[side][pair] + place
    weights = torch.where(place < shared[pair], 1.0, alpha).to(logps.values.dtype)
    return logps.values.new_zeros(len(side)).index_add(0, pair, logps.values[token] * weights)


def _exponent(values: Tensor) -> Tensor:
    """Keep what is exponentiated in the range where value and gradient are finite."""
    return values.clamp(max=80.0)
