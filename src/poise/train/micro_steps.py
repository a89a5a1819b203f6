"""Micro-steps: real optimizer steps on chosen micro-batches, on weights that stay as they are, and their time.

The line through the typical and the largest micro-batch, with known operations as its abscissa, gives any other's time.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.recipe import Recipe
from poise.run import Run
from poise.train.arguments import training_arguments
from poise.train.assemble import Assembled
from poise.train.forecast import BYTES_PER_SECOND
from poise.train.model import save_model
from poise.train.moving import Follow, FollowingReference
from poise.train.prepare import Prepared
from poise.train.reference import Reference
from poise.train.trainer import PoiseTrainer
from poise.train.work import Price, work_of

TYPICAL = 6
"""Micro-batches nearest to the mean that are timed, where there is time for them."""
SECONDS_TIMED = 4.0
"""Timing stops after this long, once a typical and the largest micro-batch were timed."""
WORTH_A_SLOPE = 1.2
"""How many times the typical operations the largest micro-batch must have for the line to be drawn through both."""
BYTES_SAVED = 1 << 30
"""Weights up to this size are written once, to time it, into a folder that is removed."""


@dataclass(frozen=True)
class Chosen:
    """Micro-batches to run, with the operations of each."""

    largest: list[Row]
    typical: list[list[Row]]
    """From the nearest to the mean on."""
    operations: Callable[[Sequence[Row]], float]

    @property
    def schedule(self) -> list[list[Row]]:
        """The order of running: the first two are not timed."""
        others = [*self.typical[1:], *self.typical]
        return [self.largest, self.typical[0], others[0], self.largest, *others[1:TYPICAL]]

    @property
    def rows(self) -> list[Row]:
        """Every row that is run."""
        return [row for group in (self.largest, *self.typical) for row in group]


def choose(groups: Sequence[list[Row]], price: Price, scorer: Scorer) -> Chosen:
    """Take the largest micro-batch and those whose operations and pieces are nearest to the mean."""
    works = [work_of(group, scorer.way) for group in groups]
    operations = np.array([price.of(work) for work in works])
    pieces = np.array([work.pieces for work in works], dtype=float)
    distance = abs(operations / operations.mean() - 1) + abs(pieces / pieces.mean() - 1)
    nearest = np.argsort(distance, kind="stable")[:TYPICAL]
    largest = max(range(len(groups)), key=lambda index: (works[index].tokens, works[index].keys))
    return Chosen(
        largest=groups[largest],
        typical=[groups[index] for index in nearest],
        operations=lambda rows: price.of(work_of(rows, scorer.way)),
    )


@dataclass(frozen=True)
class Pace:
    """Seconds of a micro-batch as a line through the typical and the largest one."""

    typical_seconds: float
    typical_operations: float
    slope: float
    """Seconds per operation."""
    operations: Callable[[Sequence[Row]], float]

    def seconds(self, groups: Sequence[Sequence[Row]]) -> float:
        """Return what micro-batches take together."""
        above = sum(map(self.operations, groups)) - len(groups) * self.typical_operations
        return max(0.0, len(groups) * self.typical_seconds + self.slope * above)


def fit_pace(chosen: Chosen, timed: Sequence[tuple[Sequence[Row], float]]) -> Pace:
    """Draw the line; through the origin where the largest micro-batch is hardly larger than the typical ones."""
    largest = [(chosen.operations(rows), seconds) for rows, seconds in timed if rows is chosen.largest]
    others = [(chosen.operations(rows), seconds) for rows, seconds in timed if rows is not chosen.largest] or largest
    operations, seconds = (mean(values) for values in zip(*others, strict=True))
    slope = seconds / operations
    most, longest = (mean(values) for values in zip(*largest, strict=True))
    if most > WORTH_A_SLOPE * operations:
        slope = max(0.0, (longest - seconds) / (most - operations))
    return Pace(seconds, operations, slope, chosen.operations)


class MicroSteps(PoiseTrainer):
    """The trainer, with the micro-batches of a schedule in the place of its own."""

    def __init__(self, chosen: Chosen, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.schedule = chosen.schedule
        self.steps: list[tuple[Sequence[Row], float, float]] = []
        """Micro-batch, begin and end of each step so far."""

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Run the next micro-batch of the schedule and take the time."""
        group = self.schedule[len(self.steps)]
        began = clock(self.args.device)
        loss = super().training_step(model, {"rows": group})
        self.steps.append((group, began, clock(self.args.device)))
        if len(self.steps) >= 4 and self.steps[-1][2] - self.steps[2][1] > SECONDS_TIMED:
            self.control.should_training_stop = True
        return loss

    @property
    def timed(self) -> list[tuple[Sequence[Row], float]]:
        """Micro-batches with their seconds, those left out that ran first."""
        return [(group, ended - began) for group, began, ended in self.steps[2:]]

    @property
    def between_steps(self) -> float:
        """Seconds from one step's backward pass to the next step's forward pass: update, logging, next rows."""
        pairs = list(itertools.pairwise(self.steps))[1:]
        return mean(later[1] - earlier[2] for earlier, later in pairs)

    def seconds_to_save(self, folder: Path) -> tuple[float, float]:
        """Return the seconds that saving the model takes, and that a checkpoint takes."""
        trained = sum(each.numel() * each.element_size() for each in self.scorer.parameters() if each.requires_grad)
        if trained > BYTES_SAVED:
            return trained / BYTES_PER_SECOND, 3 * trained / BYTES_PER_SECOND
        began = time.monotonic()
        self.save_weights(folder)
        saved = time.monotonic()
        self._save_checkpoint(self.model, None)
        return saved - began, time.monotonic() - saved


def take_micro_steps(
    recipe: Recipe,
    run: Run,
    prepared: Prepared,
    assembled: Assembled,
    reference: Reference | FollowingReference | None,
    chosen: Chosen,
) -> tuple[MicroSteps, float]:
    """Train for the steps of the schedule; returns the trainer, and the seconds that all of it took."""
    began = time.monotonic()
    schedule = {
        "max_steps": len(chosen.schedule),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 0.0,
        "eval_strategy": "no",
        "eval_on_start": False,
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "report_to": [],
    }
    alone = recipe.model_copy(update={"training": {**recipe.training, **schedule}})
    trainer = MicroSteps(
        chosen,
        assembled.scorer,
        recipe.objective,
        training_arguments(alone, run, assembled.hardware),
        run,
        prepared.rendered.train,
        reference=reference,
        micro_batch_tokens=assembled.micro_batch_tokens,
        save=lambda folder, weights: save_model(
            assembled.scorer.model, prepared.tokenizer, folder, assembled.base_sha256, weights
        ),
        callbacks=[Follow(reference)] if isinstance(reference, FollowingReference) else [],
    )
    trainer.train()
    return trainer, time.monotonic() - began


def clock(device: torch.device) -> float:
    """Return the time at which everything sent to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.monotonic()
