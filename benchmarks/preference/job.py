"""What a worker is told, and what it gives back."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from preference.measure import Layout, Work
from preference.plan import Cell
from preference.shapes import BATCH

RATES = {"lora": 5e-5, "qlora": 5e-5, "full": 5e-6}
SETTINGS: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.1},
    "orpo": {"beta": 0.1},
    "simpo": {"beta": 2.0, "simpo_gamma": 0.5},
    "sft": {},
}
"""Hyperparameters, which poise and TRL call the same; the papers' defaults."""


@dataclass(frozen=True)
class Job:
    """One cell and where its files lie."""

    cell: Cell
    folder: Path
    facts: dict[str, Any]
    """What prepare told of the data."""
    device: str
    seed: int

    @property
    def sizes(self) -> dict[str, Any]:
        """The model's sizes, its vocabulary included."""
        return self.facts["sizes"]

    @property
    def rows(self) -> str:
        """Which of the files it trains on."""
        return "conversations" if self.cell.method == "sft" else "pairs"

    @property
    def work(self) -> Work:
        """What those rows cost."""
        return Work.from_json(self.facts[self.rows])

    @property
    def layout(self) -> Layout:
        """The epoch's rows together."""
        return self.work.layout

    @property
    def training(self) -> dict[str, Any]:
        """Return the arguments both sides give transformers."""
        return {
            "learning_rate": RATES[self.cell.tuning], "seed": self.seed, "num_train_epochs": 1, "warmup_steps": 0,
            "per_device_train_batch_size": BATCH, "lr_scheduler_type": "linear", "optim": "adamw_torch_fused",
            "logging_steps": 1, "save_strategy": "no", "bf16": self.cell.dtype == "bfloat16", "report_to": [],
            "use_cpu": self.device == "cpu",
        }  # fmt: skip


@dataclass
class Outcome:
    """One measured epoch."""

    seconds: float
    """From reading the rows to the saved model; imports are not counted."""
    step_seconds: float
    reference_seconds: float | None
    """None where the steps themselves compute the reference, or there is none."""
    tokens: int
    """Of the training forward passes, padding included."""
    losses: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Flatten it."""
        return asdict(self)
