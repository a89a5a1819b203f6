"""Each thing that is wrong is found in the numbers that show it, and in none that are sound."""

import math
import random
from typing import Any

import pytest

from poise.diagnosis import diagnose

LN2 = math.log(2)


def lines(steps: int, **values: Any) -> list[dict[str, Any]]:
    """Log lines of a run; a function is given the step."""
    return [
        {"step": step, "epoch": step / 100}
        | {name: value(step) if callable(value) else value for name, value in values.items()}
        for step in range(1, steps + 1)
    ]


def kinds(objective: str, logged: list[dict[str, Any]], **given: Any) -> list[str]:
    return [found.kind for found in diagnose(objective, logged, **given)]


@pytest.mark.parametrize(
    ("objective", "steps", "warmup", "expected"),
    [
        ("dpo", 50, 0, ["stuck"]),
        ("dpo", 49, 0, []),
        ("dpo", 60, 20, []),
        ("dpo", 70, 20, ["stuck"]),
        ("ipo", 90, 0, []),
    ],
)
def test_a_loss_that_stays_at_ln_2_after_the_warm_up_is_stuck(
    objective: str, steps: int, warmup: int, expected: list[str]
) -> None:
    assert kinds(objective, lines(steps, loss=LN2 + 0.004), warmup_steps=warmup) == expected


def test_one_loss_away_from_ln_2_is_a_model_that_moves() -> None:
    assert kinds("dpo", lines(90, loss=lambda step: LN2 - 0.02 * (step == 60))) == []


@pytest.mark.parametrize(("nats", "expected"), [(30.0, ["displaced"]), (24.0, []), (-10.0, [])])
def test_chosen_answers_that_lost_a_quarter_of_their_log_probability_are_displaced(
    nats: float, expected: list[str]
) -> None:
    """Under the reference they have -100 nats; the reward is 0.1 of what was gained."""
    values = {"loss": 0.4, "logps/chosen": -100 - nats, "rewards/chosen": -0.1 * nats, "rewards/accuracies": 0.9}
    assert kinds("dpo", lines(20, **values), beta=0.1) == expected


def test_the_published_zephyr_run_is_not_called_displaced() -> None:
    """Its card: rewards/chosen -4.5221 at beta 0.1, so 45 nats lost, and -299.4561 nats at the end."""
    values = {"loss": 0.5, "logps/chosen": -299.4561, "rewards/chosen": -4.5221, "rewards/accuracies": 0.78}
    assert kinds("dpo", lines(20, **values), beta=0.1) == []


@pytest.mark.parametrize(("epoch", "expected"), [(0.01, ["perfect"]), (0.08, [])])
def test_accuracy_of_one_counts_on_pairs_of_the_first_pass_alone(epoch: float, expected: list[str]) -> None:
    logged = lines(20, **{"loss": 0.1, "rewards/accuracies": lambda step: float(step > 5)})
    assert kinds("dpo", [line | {"epoch": line["step"] * epoch} for line in logged]) == expected


def test_sound_preferences_are_called_nothing() -> None:
    """30 runs of 200 steps: losses around a falling level, accuracy of 16 pairs around 0.75, chosen a little down."""
    for seed in range(30):
        noise = random.Random(seed)
        logged = lines(
            200,
            **{
                "loss": lambda step, noise=noise: LN2 - 0.001 * step + noise.gauss(0, 0.03),
                "rewards/accuracies": lambda _, noise=noise: sum(noise.random() < 0.75 for _ in range(16)) / 16,
                "rewards/chosen": lambda step, noise=noise: -0.01 * step + noise.gauss(0, 0.1),
                "logps/chosen": lambda step, noise=noise: -250 - 0.1 * step + noise.gauss(0, 20),
            },
        )
        for end in range(10, 201, 10):
            assert kinds("dpo", logged[:end], beta=0.1) == []
