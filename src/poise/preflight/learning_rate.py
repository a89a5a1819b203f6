"""The learning rate against method, tuning and model size: published rates, and how far from them is too far.

    likelihood, all weights   1e-3 (SmolLM2-135M and 360M SFT), 3e-4 (SmolLM2-1.7B), 2e-5 (Zephyr-7B), 3.5e-7 (bagel)
    cpt, all weights          3e-3 (SmolLM2-135M), 5e-4 (SmolLM2-1.7B), 3e-4 (Llama 2 7B): the models' own pretraining
    likelihood, LoRA          1e-4 to 2e-4 (QLoRA, arXiv:2305.14314; the handbook), 1e-3 on small models
    on pairs, all weights     5e-7 (Zephyr, Tülu 3), 1e-6 (SmolLM2; arXiv:2305.18290), 5e-6 (KTO in TRL), 2e-7 (APO)
    on pairs, LoRA            5e-6 (the handbook's Zephyr; TRL): ten times that of all weights. 1e-5 diverges on 1B
    orpo                      5e-6 (handbook), 8e-6 (arXiv:2403.07691), with LoRA 8e-5 (TRL): its loss holds SFT's

SimPO's authors on pairs: 1e-5 "can significantly degrade performance", search 3e-7 to 1e-6 (arXiv:2405.14734, code).
"""

from collections.abc import Iterator

from poise.preflight.finding import Finding
from poise.preflight.known import Known
from poise.recipe_defaults import LEARNING_RATES

SMALLEST_JUDGED = 50_000_000
"""Parameters below which no rate is published; good rates grow as models shrink."""
SMALL, MIDDLE = 500_000_000, 3_000_000_000
TOO_HIGH, FAR_TOO_HIGH, FAR_TOO_LOW = 2, 20, 0.1
"""Times the highest published rate that warn and that stop, and times the lowest that warn."""
PUBLISHED: dict[tuple[str, str], tuple[float, tuple[float, float, float]]] = {
    ("cpt", "full"): (1e-6, (3e-3, 5e-4, 3e-4)),
    ("cpt", "LoRA"): (1e-5, (1e-3, 1e-3, 1e-3)),
    ("sft", "full"): (3e-7, (1e-3, 3e-4, 5e-5)),
    ("sft", "LoRA"): (1e-5, (1e-3, 1e-3, 1e-3)),
    ("orpo", "full"): (5e-7, (5e-5, 5e-5, 2e-5)),
    ("orpo", "LoRA"): (5e-6, (2e-4, 2e-4, 2e-4)),
    ("dpo", "full"): (1e-7, (5e-6, 5e-6, 5e-6)),
    ("dpo", "LoRA"): (2e-6, (5e-6, 5e-6, 5e-6)),
}
"""(method, tuning) -> the lowest rate published, and the highest for small, middle and large models."""
LIKE = {"cpt": "cpt", "sft": "sft", "nll": "sft", "orpo": "orpo", "cpo": "orpo"}
"""Objective -> the row it is judged by; every other is a loss on pairs or answers like dpo's."""
JUDGED_OPTIMIZERS = ("adamw", "rmsprop", "adamax", "ademamix", "adam")
"""Parts of the names of optimizers whose update is about the learning rate in size."""


def check_learning_rate(known: Known) -> Iterator[Finding]:
    """Compare with what is published; a model too small for that is not judged."""
    recipe, facts = known.recipe, known.model
    if facts is not None and facts.parameters < SMALLEST_JUDGED:
        return
    if not any(name in str(recipe.training["optim"]) for name in JUDGED_OPTIMIZERS):
        return
    rate, tuning = float(recipe.training["learning_rate"]), recipe.model.tuning
    lowest, highest = published(recipe.verb, tuning, facts.parameters if facts else 0)
    of = f"{recipe.verb} with {'LoRA' if tuning == 'LoRA' else 'all weights trained'}"
    usual = LEARNING_RATES.get((recipe.verb, tuning), LEARNING_RATES["dpo", tuning])
    remedy = f"learning_rate={usual:g}, the default for {of}"
    if rate >= TOO_HIGH * highest:
        code = "E101" if rate >= FAR_TOO_HIGH * highest else "W101"
        yield Finding(
            code, f"learning_rate {rate:g} is {rate / highest:.2g} times the highest published for {of} ({highest:g})",
            remedy,
        )  # fmt: skip
    elif rate < lowest:
        code = "W102" if rate <= FAR_TOO_LOW * lowest else "N102"
        yield Finding(code, f"learning_rate {rate:g} is below the lowest published for {of} ({lowest:g})", remedy)


def published(verb: str, tuning: str, parameters: int) -> tuple[float, float]:
    """Return the lowest and highest rate published for an objective; poise's default is always within."""
    lowest, by_size = PUBLISHED[LIKE.get(verb, "dpo"), tuning]
    size = 0 if parameters < SMALL else 1 if parameters < MIDDLE else 2
    default = next((rate for key, rate in LEARNING_RATES.items() if key == (verb, tuning)), by_size[size])
    return min(lowest, default), max(by_size[size], default)
