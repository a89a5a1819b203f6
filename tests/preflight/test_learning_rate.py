"""Rates against what is published, by method, tuning and size."""

from collections.abc import Callable
from typing import Any

import pytest

from poise.names import names_in
from poise.preflight.beta import PUBLISHED as BETAS
from poise.preflight.learning_rate import FAR_TOO_HIGH, TOO_HIGH, published
from poise.recipe_defaults import LEARNING_RATES
from poise.recipe_objective import objective_class


@pytest.mark.parametrize("verb", names_in("poise.objectives"))
@pytest.mark.parametrize("tuning", ["full", "LoRA"])
@pytest.mark.parametrize("parameters", [135_000_000, 1_700_000_000, 7_000_000_000])
def test_every_default_is_within_what_is_published(verb: str, tuning: str, parameters: int) -> None:
    rates = {key[0]: rate for key, rate in LEARNING_RATES.items() if key[1] == tuning}
    default = rates.get(verb, rates["dpo"])
    lowest, highest = published(verb, tuning, parameters)
    assert lowest <= default < TOO_HIGH * highest


@pytest.mark.parametrize("verb", BETAS)
def test_every_default_beta_is_within_what_is_published(verb: str) -> None:
    low, high = BETAS[verb]
    assert low <= objective_class(verb).model_fields["beta"].default <= high


@pytest.mark.parametrize(
    ("rate", "code"),
    [
        (5e-6, None),  # the handbook's
        (1e-5, "W101"),  # twice that: diverges on 1B
        (1e-4, "E101"),  # twenty times
        (2e-6, None),
        (1e-6, "N102"),
        (1e-7, "W102"),
    ],
)
def test_the_limits_of_dpo_with_lora(rate: float, code: str | None, look: Callable[..., Any], made: Any) -> None:
    assert (TOO_HIGH, FAR_TOO_HIGH) == (2, 20)
    found = [each.code for each in look("dpo", made.pairs(12), use_peft=True, learning_rate=rate)]
    assert [each for each in found if each[1:] in ("101", "102")] == ([code] if code else [])


def test_a_tiny_model_and_a_rate_without_scale_are_not_judged(look: Callable[..., Any], made: Any) -> None:
    for values in ({"model": "tiny", "learning_rate": 1.0}, {"optim": "sgd", "learning_rate": 1.0}):
        assert not [each for each in look("dpo", made.pairs(12), **values) if each.code[1:] in ("101", "102")]
