"""What preference objectives have in common: scores of each answer, weights of each pair, a reference that moves.

    score(y) = log pi(y|x) - log ref(y|x)        the log-ratio r; under other f-divergences f'(e^r), f-DPO below

- f-DPO (Wang et al. 2023, arXiv:2309.16240, equation 6): f'(u) for u = pi / ref is 1 - 1/u for the forward KL,
  log(2u / (1 + u)) for Jensen-Shannon, (u^(a - 1) - 1) / (a - 1) for the alpha-divergence (a is 1 - alpha of the paper,
  as in TRL), log u for the reverse KL of DPO: each shifted by the constant that makes f'(1) 0.
- LD-DPO (Liu et al. 2024, arXiv:2409.06411, equation 10): tokens beyond the shorter answer's length count `ld_alpha`.
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
from poise.batch.objective import Objective, Referenced, Unit


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


class Pairs(Objective):
    """Base of the losses on preference pairs."""

    unit: ClassVar[Unit] = "pairs"
    rows: ClassVar[tuple[str, ...]] = ("preference_pair", "ranked_answers")


class ReferencePairs(Pairs, Referenced):
    """Base of the losses on pairs that are measured from a reference."""

    beta: float = Field(default=0.1, gt=0)
    """How strongly the policy is held to the reference."""
    ld_alpha: float | None = Field(default=None, ge=0, le=1)
    """Weight of the tokens beyond the length of the shorter answer; None, like 1, counts all alike."""

    @abstractmethod
    def losses(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the loss of each pair, (pairs,), in nats."""

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (pairs,) in nats and metrics, each (pairs,)."""
        assert reference is not None
        chosen, rejected = answers(policy, reference, self.ld_alpha)
        metrics = preference_metrics(policy, self.beta * chosen.ratio, self.beta * rejected.ratio)
        return self.losses(chosen, rejected), metrics


class SeparatePairs(ReferencePairs):
    """Base of those whose pairs do not look at one another, so that each can be weighed by itself."""

    use_weighting: bool = False
    """Weigh each pair by how likely the policy is to write it (WPO)."""

    @property
    def needs_collision(self) -> bool:
        """WPO aligns with what the policy itself would sample."""
        return self.use_weighting

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (pairs,) in nats and metrics, each (pairs,)."""
        losses, metrics = super().__call__(policy, reference)
        if not self.use_weighting:
            return losses, metrics
        weights = likely_under_itself(policy)
        return losses * weights, metrics | {"weights": weights}


Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]


class DivergencePairs(SeparatePairs):
    """Base of those that compare scores, which another f-divergence than the reverse KL bends."""

    f_divergence_type: Divergence = "reverse_kl"
    """How the distance to the reference is measured; DPO's own is the reverse KL."""
    f_alpha_divergence_coef: float = 0.5
    """The alpha of alpha_divergence; 1 is the reverse KL, 0 the forward KL."""

    @property
    def idle(self) -> dict[str, str]:
        """The coefficient too, where another divergence is asked for."""
        why = "no effect: f_divergence_type is not alpha_divergence"
        unused = {} if self.f_divergence_type == "alpha_divergence" else {"f_alpha_divergence_coef": why}
        return super().idle | unused

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


def logistic(margins: Tensor, smoothing: float) -> Tensor:
    """- log sigmoid of the margins (pairs,); a share `smoothing` of the pairs is taken to be the wrong way round."""
    return -F.logsigmoid(margins) * (1 - smoothing) - F.logsigmoid(-margins) * smoothing


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
    """Keep what is exponentiated where its exponential can still be squared and summed: 40 in float32."""
    return values.clamp(max=math.log(torch.finfo(values.dtype).max) / 2 - 4)
