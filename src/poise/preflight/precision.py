"""The type of the weights against what is trained and how far it moves in a step."""

from collections.abc import Iterator

from poise.preflight.finding import Finding
from poise.preflight.known import Known

MOVED = ((1e-6, 2), (5e-6, 8), (1e-5, 15), (2e-5, 30), (1e-4, 85))
"""(learning rate, percent of bfloat16 weights of deviation 0.02 that 100 steps of AdamW move), as measured."""
WARNS_UP_TO = 5e-6


def check_precision(known: Known) -> Iterator[Finding]:
    """16-bit weights are fine under an adapter, and too coarse to be trained themselves by small steps."""
    section, rate = known.recipe.model, float(known.recipe.training["learning_rate"])
    if section.tuning == "LoRA":
        return
    if section.torch_dtype == "float16":
        yield Finding("W502", "torch_dtype: float16 with all weights trained")
    if section.torch_dtype == "bfloat16":
        moved = next((percent for limit, percent in MOVED if rate <= limit), None)
        if moved is not None:
            code = "W110" if rate <= WARNS_UP_TO else "N110"
            yield Finding(
                code, f"torch_dtype: bfloat16 with all weights trained at {rate:g}: about {moved} % of them can move"
            )


def check_reference(known: Known) -> Iterator[Finding]:
    """A reference that is named is another model, and under an adapter perhaps the wrong one."""
    section = known.recipe.model
    other = section.ref_model_name_or_path
    if other is None or not known.recipe.objective.needs_reference:
        return
    base = known.model.adapter_base if known.model else None
    if base is not None and _same(other, base):
        yield Finding("W111", f"ref_model_name_or_path {other} is the base of the adapter {section.model_name_or_path}")
    elif not _same(other, section.model_name_or_path):
        yield Finding("N111", f"ref_model_name_or_path {other}, and training starts from {section.model_name_or_path}")


def _same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")
