"""What is measured: a cell is one arm on one data set with one method, tuning and dtype, in a process of its own."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from preference.shapes import SHAPES

METHODS = ("dpo", "orpo", "simpo", "sft")
TUNINGS = ("lora", "full", "qlora")
DTYPES = ("float32", "bfloat16")
PAIR_ARMS = ("poise", "poise-unshared", "poise-unpacked", "trl", "trl-best")
SFT_ARMS = ("poise", "poise-unpacked", "trl", "trl-best", "trl-flat", "trl-packed")
"""A conversation has nothing to share. `trl-flat` is padding-free with poise's rows in each step, `trl-packed` packs,
which puts other rows together."""
BLOCK = 64
SUBSET = ("tldr", "ultrafeedback")
"""The longest and the shortest prompt for its answer."""
MODELS = {
    "width": {"num_hidden_layers": 6, "num_attention_heads": 8},
    "1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 32768,
    },
}  # fmt: skip
"""`width` takes --width; `1b` has Llama 3.2 1B's layers over a smaller vocabulary: 1.1 billion parameters."""


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    data: str
    method: str
    tuning: str
    dtype: str
    arm: str

    @property
    def group(self) -> "tuple[str, str, str, str]":
        """What its rivals share with it."""
        return self.data, self.method, self.tuning, self.dtype

    def __str__(self) -> str:
        """Name it in one phrase."""
        return "/".join((*self.group, self.arm))


@dataclass(frozen=True)
class Settings:
    """What all cells of a run share; a cell measured under others is not this run's."""

    rows: int | None
    tokens: int
    width: int
    model: str
    device: str
    seed: int
    file: str | None
    """The data of `file`."""

    def sizes(self) -> dict[str, Any]:
        """Return the Llama configuration's fields."""
        chosen = MODELS[self.model]
        return chosen if self.model != "width" else width_sizes(self.width) | chosen


def width_sizes(width: int) -> dict[str, int]:
    """Return hidden size and Llama's 8/3 of it, rounded up to a block of 64 weights that share a 4-bit scale."""
    return {"hidden_size": width, "intermediate_size": -(-width * 8 // (3 * BLOCK)) * BLOCK}


def arms_of(method: str) -> tuple[str, ...]:
    """Return the arms of a method; those of one group run one after another."""
    return SFT_ARMS if method == "sft" else PAIR_ARMS


def product(
    data: Iterable[str], methods: Iterable[str], tunings: Iterable[str], dtypes: Iterable[str], arms: Sequence[str]
) -> list[Cell]:
    """Cross everything, the arms of a group together; `arms` empty means all that the method has."""
    groups = itertools.product(data, methods, tunings, dtypes)
    return [Cell(*group, arm) for group in groups for arm in arms_of(group[1]) if not arms or arm in arms]


def headline(data: Sequence[str], arms: Sequence[str]) -> list[Cell]:
    """DPO everywhere with both tunings and both dtypes; other methods and QLoRA on a subset in float32."""
    few = [name for name in data if name in SUBSET]
    return by_data([
        *product(data, ["dpo"], ["lora", "full"], DTYPES, arms),
        *product(few, ["orpo", "simpo", "sft"], ["lora", "full"], ["float32"], arms),
        *product(few, ["dpo"], ["qlora"], ["float32"], arms),
    ])  # fmt: skip


def by_data(cells: Sequence[Cell]) -> list[Cell]:
    """Put the cells of one data set together, because it is prepared once; otherwise keep the order."""
    order = list(dict.fromkeys(cell.data for cell in cells))
    return sorted(cells, key=lambda cell: order.index(cell.data))


def all_data(file: str | None) -> list[str]:
    """Return the file, where there is one, and the six shapes."""
    return [*(["file"] if file else []), *SHAPES]


def key(cell: Cell, settings: Settings) -> str:
    """Return what a measured cell is found again by."""
    return repr((sorted(asdict(cell).items()), sorted(asdict(settings).items())))
