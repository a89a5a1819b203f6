"""Which optimizer a recipe's `optim` becomes on this device: bitsandbytes' where it runs, else torch's own."""

from dataclasses import dataclass
from importlib.util import find_spec

import torch

from poise.errors import ModelError

TORCH_ADAMW = "adamw_torch_fused"
PAGED = {
    "paged_adamw_32bit": TORCH_ADAMW,
    "paged_adamw_8bit": "adamw_8bit",
    "paged_ademamix_32bit": "ademamix",
    "paged_ademamix_8bit": "ademamix_8bit",
    "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit",
}
"""The same update with its state in ordinary memory; paging moves state between CUDA and the host, and nothing else."""
EIGHT_BIT_ADAMW = ("adamw_8bit", "adamw_bnb_8bit")
NEED_BITSANDBYTES = frozenset(
    (*EIGHT_BIT_ADAMW, "ademamix", "ademamix_8bit", "lion_8bit", "lion_32bit", "rmsprop_bnb", "rmsprop_bnb_8bit",
     "rmsprop_bnb_32bit", *PAGED)
)  # fmt: skip


@dataclass(frozen=True)
class Optimizer:
    """The optimizer that runs."""

    name: str
    """As transformers' TrainingArguments call it."""
    note: str | None = None
    """A sentence where it is not the recipe's."""


def choose_optimizer(asked: str, device: torch.device) -> Optimizer:
    """Take the recipe's optimizer, or the nearest one that this device and installation have.

    Raises ModelError where there is none: only AdamW has a twin in torch.
    """
    installed = find_spec("bitsandbytes") is not None
    if asked not in NEED_BITSANDBYTES or (installed and device.type == "cuda"):
        return Optimizer(asked)
    chosen = PAGED.get(asked, asked)
    runs = installed and device.type == "cpu"
    if chosen in EIGHT_BIT_ADAMW and not runs:
        chosen = TORCH_ADAMW
    if chosen in NEED_BITSANDBYTES and not runs:
        raise ModelError(
            f"optim: {asked} needs bitsandbytes on CUDA or the CPU, "
            f"{'this run has ' + device.type if installed else 'which is not installed'}\n"
            f"    to do:  optim={TORCH_ADAMW}, or pip install 'poise[quantize]'"
        )
    if chosen == asked:
        return Optimizer(asked)
    missing = "bitsandbytes" if not installed else "CUDA"
    return Optimizer(chosen, f"optim: {asked} needs {missing}; {chosen} is used instead")
