"""What a preference run's numbers say while it trains, in plain words: one sentence for each thing, with its remedy.

Every rule asks for more than chance or a sound run gives. Likelihood displacement: arXiv:2410.08847.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal

LN2 = math.log(2)
STARTS_AT_LN2 = ("aot", "aot_unpaired", "dpo", "robust", "sigmoid_norm")
"""Objectives whose loss is ln 2 where policy and reference agree."""
AT_LN2 = 0.005
"""Nats from ln 2 that a loss of a model that learns leaves within a few steps."""
STUCK_STEPS = 50
"""Steps at ln 2 after the warm-up."""
FELL = 0.25
"""Share of their own log-probability that chosen answers lost; zephyr-7b-beta, a sound model, lost 0.18 by its card."""
FELL_NATS = 5.0
LATEST = 10
"""Logged lines that are the state of things now."""
PERFECT_WITHIN = 50
"""Steps."""

Kind = Literal["stuck", "displaced", "perfect"]


@dataclass(frozen=True)
class Diagnosis:
    """One thing that is wrong, as a sentence."""

    kind: Kind
    said: str


def diagnose(
    objective: str, lines: Sequence[Mapping[str, Any]], *, beta: float | None = None, warmup_steps: int = 0
) -> Iterator[Diagnosis]:
    """Look at the logged lines of a run so far, training ones with `step` and `loss`."""
    logged = [line for line in lines if "loss" in line]
    if not logged:
        return
    if said := _stuck(objective, logged, warmup_steps):
        yield Diagnosis("stuck", said)
    if said := _displaced(logged, beta):
        yield Diagnosis("displaced", said)
    if said := _perfect(logged):
        yield Diagnosis("perfect", said)


def _stuck(objective: str, lines: Sequence[Mapping[str, Any]], warmup_steps: int) -> str:
    warm = [line for line in lines if line["step"] > warmup_steps]
    if objective not in STARTS_AT_LN2 or len(warm) < 2 or warm[-1]["step"] - warmup_steps < STUCK_STEPS:
        return ""
    if any(abs(line["loss"] - LN2) >= AT_LN2 for line in warm):
        return ""
    return (
        f"the loss is still ln 2 = 0.693 after {warm[-1]['step']} steps: the model has not moved from its reference; "
        "usual remedy: ten times the learning rate, and a look at whether chosen and rejected differ (poise mask)"
    )


def _displaced(lines: Sequence[Mapping[str, Any]], beta: float | None) -> str:
    """Compare with the reference on the same rows, which the reward gives: reward = beta x (policy - reference)."""
    now = [line for line in lines[-LATEST:] if "logps/chosen" in line and "rewards/chosen" in line]
    if not beta or len(now) < LATEST:
        return ""
    policy, lost = mean(line["logps/chosen"] for line in now), -mean(line["rewards/chosen"] for line in now) / beta
    before = policy + lost
    if lost < FELL_NATS or before >= 0 or lost < FELL * -before:
        return ""
    accuracy = mean(line.get("rewards/accuracies", 0.0) for line in now)
    return (
        f"chosen answers are {lost:.0f} nats less likely than under the reference ({before:.0f} -> {policy:.0f}) at "
        f"step {now[-1]['step']}, while reward accuracy reads {accuracy:.2f}: likelihood displacement; usual remedy: a "
        "smaller learning rate, or an sft term beside the loss (loss_type: [sigmoid, sft])"
    )


def _perfect(lines: Sequence[Mapping[str, Any]]) -> str:
    """Only pairs of the first pass count, which the model has not been trained on."""
    early = [line for line in lines if line["step"] <= PERFECT_WITHIN and line.get("epoch", 0.0) < 1]
    run = early[-LATEST:]
    if len(run) < LATEST or any(line.get("rewards/accuracies", 0.0) < 1 for line in run):
        return ""
    return (
        f"reward accuracy is 1.00 from step {run[0]['step']} on, on pairs it had not seen: chosen and rejected are "
        "told apart by something easy, such as length, format or template; usual remedy: look at pairs (poise "
        "mask, poise look), and trust questions asked before and after more than this curve"
    )
