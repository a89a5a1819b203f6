"""Beta against what papers and recipes use with each objective.

dpo: 0.01 to 1 (the handbook scans 0.01 to 0.9; Tülu 3's 5 goes with the mean, sigmoid_norm). simpo: 2 to 10
(arXiv:2405.14734). orpo: 0.05 to 1 (arXiv:2403.07691, table 6). kto, bco: 0.01 to 0.5. ipo: 0.01 to 1.
"""

from collections.abc import Iterator

from poise.preflight.finding import Finding
from poise.preflight.known import Known

PUBLISHED: dict[str, tuple[float, float]] = {
    "dpo": (0.01, 0.9),
    "ipo": (0.01, 1.0),
    "kto": (0.01, 0.5),
    "simpo": (2.0, 10.0),
    "orpo": (0.05, 1.0),
    "sigmoid_norm": (2.0, 10.0),
}
FAR = {"dpo": 5.0, "ipo": 10.0, "kto": 10.0, "simpo": 10.0, "orpo": 10.0, "sigmoid_norm": 10.0}
"""Times outside that warn. DPO's is smaller: 5, from sigmoid_norm's recipes, is the mistake that is made."""


def check_beta(known: Known) -> Iterator[Finding]:
    """Warn where beta is of another method's size."""
    verb = known.recipe.verb
    beta = getattr(known.recipe.objective, "beta", None)
    if verb not in PUBLISHED or beta is None:
        return
    low, high = PUBLISHED[verb]
    if low / FAR[verb] < beta < high * FAR[verb]:
        return
    yield Finding("W109", f"beta {beta:g}, where {verb} is published with {low:g} to {high:g}", f"beta={low:g} or more"
                  if beta < low else f"beta={high:g} or less")  # fmt: skip
