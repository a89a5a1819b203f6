"""Divergence in real runs: sound ones are never stopped, ruined ones at once, late and gradual harm within 20 steps."""

import random
from statistics import median
from typing import Any

import pytest

from poise.errors import DivergenceError
from poise.run import Run

pytestmark = pytest.mark.slow

STEP = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 1e-2}


def rows_of(verb: str, tiny: Any) -> list[dict[str, Any]]:
    """40 rows, ten steps."""
    return tiny.uneven_rows(40) if verb == "sft" else tiny.uneven_pairs(40)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("verb", ["sft", "dpo", "orpo"])
def test_a_sound_run_is_never_stopped(verb: str, seed: int, tiny: Any, train_run: Any) -> None:
    rate = (1e-3, 1e-2)[seed % 2]
    run = train_run(verb, rows_of(verb, tiny), **STEP | {"learning_rate": rate}, seed=seed, num_train_epochs=6)
    assert run.manifest["status"] == "done"
    assert not [line for line in run.manifest.get("warnings", []) if "diverges" in line]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rate", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("verb", ["sft", "dpo"])
def test_a_ruinous_learning_rate_is_told_within_nine_steps(
    verb: str, rate: float, seed: int, tiny: Any, train_run: Any
) -> None:
    with pytest.raises(DivergenceError, match=r"step [4-9]: training diverges"):
        train_run(verb, rows_of(verb, tiny), **STEP | {"learning_rate": rate}, seed=seed, num_train_epochs=2)


@pytest.mark.parametrize("verb", ["sft", "dpo"])
def test_a_learning_rate_that_grows_too_high_is_told_within_twenty_steps_of_the_best_level(
    verb: str, tiny: Any, train_run: Any, tmp_path: Any
) -> None:
    with pytest.raises(DivergenceError, match="training diverges"):
        train_run(verb, rows_of(verb, tiny), **STEP | {"learning_rate": 10.0}, warmup_steps=400, num_train_epochs=40)
    seen = losses(Run(tmp_path / "run"))
    levels = [median(seen[end - 10 : end]) for end in range(10, len(seen) + 1)]
    best = 10 + max(place for place, level in enumerate(levels) if level <= min(levels) * 1.1)
    assert len(seen) + 1 <= best + 20


SOUND_STEPS = 60
HARMS = [("sft", "noise"), ("orpo", "noise"), ("dpo", "swapped"), ("simpo", "swapped")]


def harmed(row: dict[str, Any], how: str, chance: random.Random) -> dict[str, Any]:
    """Answer with letters, or take the rejected answer for the chosen one."""
    if how == "swapped":
        return row | {"chosen": row["rejected"], "rejected": row["chosen"]}
    words = " ".join("".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 8))) for _ in range(6))
    return row | {"chosen": words} if "chosen" in row else {"messages": [row["messages"][0], answer(words)]}


def answer(words: str) -> dict[str, str]:
    return {"role": "assistant", "content": words}


@pytest.mark.parametrize("gradually", [False, True], ids=["at once", "a row in five steps more"])
@pytest.mark.parametrize(("verb", "how"), HARMS)
def test_rows_that_are_bad_late_in_the_data_are_told_within_twenty_steps(
    verb: str, how: str, gradually: bool, tiny: Any, train_run: Any, tmp_path: Any
) -> None:
    chance = random.Random(0)
    rows = tiny.uneven_rows(400) if verb == "sft" else tiny.uneven_pairs(400)
    chance.shuffle(rows)
    for place in range(SOUND_STEPS * 4, 400):
        if not gradually or place % 4 <= (place // 4 - SOUND_STEPS) // 5:
            rows[place] = harmed(rows[place], how, chance)
    rate = 3e-3 if verb == "sft" else 1e-3
    with pytest.raises(DivergenceError, match="training diverges"):
        train_run(verb, rows, **STEP | {"learning_rate": rate}, train_sampling_strategy="sequential")
    assert SOUND_STEPS < len(losses(Run(tmp_path / "run"))) + 1 <= SOUND_STEPS + 20


def losses(run: Run) -> list[float]:
    """Return the logged losses."""
    return [line["loss"] for line in run.metrics() if "loss" in line]
