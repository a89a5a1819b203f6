"""What objectives on unpaired answers have in common: an answer is desirable or not, and compared with no other.

    log-ratio   r(x, y) = log pi(y|x) - log ref(y|x)      loss = w(y) (1 - value(r)),  w: the weight of y's label

Preference pairs are such answers too: the chosen one is desirable, the rejected one is not, and they share a prompt.
The balance of the two kinds is what KTO's equation 8 is about (Ethayarajh et al. 2024, arXiv:2402.01306):
n_D w_D / (n_U w_U) between 1 and 4/3, for n_D desirable and n_U undesirable answers.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from poise.batch.logps import Logps
from poise.batch.objective import Referenced, Unit, only_of
from poise.batch.row import Row

BALANCED = (1.0, 4 / 3)
"""Range of n_D w_D / (n_U w_U) that the paper recommends."""


class UnpairedAnswers(Referenced):
    """Base of the losses on single answers that are measured from a reference."""

    unit: ClassVar[Unit] = "answers"
    rows: ClassVar[tuple[str, ...]] = ("labeled_conversation", "preference_pair")

    beta: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """How strongly the policy is held to the reference."""
    desirable_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Weight of each desirable answer's loss."""
    undesirable_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Weight of each undesirable answer's loss."""

    @abstractmethod
    def losses(self, ratios: Tensor, signs: Tensor, estimate: Tensor) -> Tensor:
        """Return the loss of each answer before its weight, (answers,), between 0 and 1.

        `ratios` (answers,) in nats; `signs` (answers,) is 1 where an answer is desirable, -1 where not; `estimate` is
        the divergence from the reference in nats, 0 where the objective asks for none.
        """

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (answers,) and metrics; rewards and log-probabilities are means over the answers of a label."""
        assert reference is not None
        logps = policy.sum()
        gains = logps - reference.sum()
        ratios, desirable = gains[policy.labeled], policy.desirable
        estimate = self._divergence(gains, policy.mismatched)
        losses = self.losses(ratios, torch.where(desirable, 1.0, -1.0).to(ratios.dtype), estimate)
        weights = torch.where(desirable, self.desirable_weight, self.undesirable_weight).to(ratios.dtype)
        metrics = self._metrics(logps[policy.labeled], self.beta * ratios, desirable)
        if self.needs_mismatched:
            metrics["kl"] = estimate.expand(len(ratios))
        return weights * losses, metrics

    def remarks(self, rows: Sequence[Row]) -> list[str]:
        """Say where one label is missing, or where the two are out of balance."""
        labels = [desirable for row in rows for _, desirable in row.labeled]
        wanted = sum(labels)
        unwanted = len(labels) - wanted
        if not wanted or not unwanted:
            label, become = ("desirable", "likelier") if wanted else ("undesirable", "less likely")
            return [f"all {len(labels):,} answers are {label}: there is nothing to tell them from, all become {become}"]
        balance = wanted * self.desirable_weight / (unwanted * self.undesirable_weight)
        least, most = BALANCED
        if least <= balance <= most:
            return []
        low, high = (ratio * unwanted * self.undesirable_weight / wanted for ratio in BALANCED)
        return [
            f"{wanted:,} desirable and {unwanted:,} undesirable answers weigh {balance:.2f} to 1; KTO's authors advise "
            f"{least:.0f} to {most:.2f}, as a desirable_weight between {low:.3g} and {high:.3g} gives"
        ]

    def _divergence(self, gains: Tensor, mismatched: Tensor) -> Tensor:
        """Estimate the divergence, without gradient: the mean log-ratio of other rows' answers, at least 0."""
        if not self.needs_mismatched:
            return gains.new_zeros(())
        if not len(mismatched):
            raise ValueError(
                "no mismatched answers to estimate the divergence from; `with_mismatched` adds them to rows"
            )
        return gains.detach()[mismatched].mean().clamp(min=0)

    def _metrics(self, logps: Tensor, rewards: Tensor, desirable: Tensor) -> dict[str, Tensor]:
        return {
            "rewards/chosen": only_of(desirable, rewards),
            "rewards/rejected": only_of(~desirable, rewards),
            "logps/chosen": only_of(desirable, logps),
            "logps/rejected": only_of(~desirable, logps),
        }
