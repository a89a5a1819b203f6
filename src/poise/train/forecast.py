"""A Forecast: how long a run will take and how much memory, written into its manifest to be laid beside the facts.

`poise plan RECIPE --probe` makes one before a run and keeps it; a run of the same recipe, rows and machine finds it.
Any other run makes one from its own first steps.
"""

import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from poise import __version__
from poise.batch.pack import pack
from poise.batch.row import Row
from poise.cache import cache_folder
from poise.recipe import Recipe
from poise.run import write_whole
from poise.train.peak_memory import peak_memory_bytes
from poise.train.trainer import PoiseTrainer
from poise.train.work import forward_price, lay_out, training_price, work_of

BY_PROBE = "poise plan --probe"
FIRST_STEPS = 4
"""Steps after which a run forecasts itself; the first is left out, it pays for allocations and kernel choices."""
BYTES_PER_SECOND = 1e9
"""Assumed for what a run has not written yet."""
ROWS_SAMPLED, STEPS_SAMPLED = 2_000, 200
"""Enough for a mean and a largest micro-batch, and no cost to the run."""


@dataclass(frozen=True)
class Forecast:
    """What a run is expected to take."""

    seconds: float
    peak_memory_bytes: int
    """As `peak_memory_bytes` of the metrics counts it."""
    step_seconds: float
    """An optimizer step, on average."""
    parts: dict[str, float]
    """Seconds of each part of the run, in its order."""
    by: str
    """How it was found."""


def remember(forecast: Forecast, recipe: Recipe, rows_sha256: str) -> Path:
    """Keep a forecast where a run of the same recipe will find it; returns the file."""
    file = _file(recipe, rows_sha256)
    write_whole(file, json.dumps(asdict(forecast), indent=2) + "\n")
    return file


def remembered(recipe: Recipe, rows_sha256: str) -> Forecast | None:
    """Return what a probe of this recipe, these rows and this machine found, if there was one."""
    try:
        return Forecast(**json.loads(_file(recipe, rows_sha256).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _file(recipe: Recipe, rows_sha256: str) -> Path:
    values = {
        f"{section}.{key}": value
        for section, key, value, _ in recipe.describe()
        if key not in ("output_dir", "run_name")
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    machine = (platform.node(), device, torch.get_num_threads(), torch.__version__, __version__)
    key = json.dumps([recipe.verb, values, rows_sha256, machine], sort_keys=True, default=str)
    return cache_folder() / "forecasts" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def evaluations(recipe: Recipe, steps: int) -> int:
    """Count the passes over the held-out rows that transformers' loop will make."""
    training = recipe.training
    each = training.get("eval_steps") or training["logging_steps"]
    return bool(training.get("eval_on_start")) + _times(recipe, str(training["eval_strategy"]), each, steps)


def checkpoints(recipe: Recipe, steps: int) -> int:
    """Count the checkpoints it will write; `best` writes after an evaluation, at most."""
    strategy = str(recipe.training["save_strategy"])
    if strategy == "best":
        return evaluations(recipe, steps)
    return _times(recipe, strategy, recipe.training["save_steps"], steps)


def _times(recipe: Recipe, strategy: str, each: float, steps: int) -> int:
    if strategy == "steps":
        return -(-steps // max(1, int(each if each >= 1 else -(-steps * each // 1))))  # the last step counts too
    return int(-(-float(recipe.training["num_train_epochs"]) // 1)) if strategy == "epoch" else 0


def forecast_run(
    trainer: PoiseTrainer, recipe: Recipe, rows_sha256: str, *, began: float, asking: float, resumed: bool
) -> None:
    """Give a run's manifest a forecast: a probe's where there is one, else of its own first steps.

    `began` is `time.monotonic()` at the run's begin, `asking` the seconds that its questions took before training.
    """
    alone = trainer.accelerator.num_processes == 1
    probed = remembered(recipe, rows_sha256) if alone and not resumed else None
    if probed is not None:
        trainer.run.update_manifest(forecast=asdict(probed))
    else:
        if trainer.is_world_process_zero():
            trainer.run.update_manifest(forecast=None)
        trainer.add_callback(_ForecastItself(recipe, trainer, began, asking))


class _ForecastItself(TrainerCallback):
    """Forecast a run from its first steps, and write that into its manifest."""

    def __init__(self, recipe: Recipe, trainer: PoiseTrainer, began: float, asking: float) -> None:
        dataset: Any = trainer.train_dataset
        self.recipe, self.trainer, self.began, self.asking = recipe, trainer, began, asking
        self.rows: Sequence[Row] = dataset.rows
        self._seconds: list[float] = []
        self._rows: list[Sequence[Row]] = []
        self._step_began = 0.0
        self._peak_before = 0
        self._is_made = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the time."""
        self._peak_before = self._peak_before or peak_memory_bytes(args.device)
        self._step_began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the step's time; after enough of them, forecast."""
        if self._is_made:
            return
        self._seconds.append(time.monotonic() - self._step_began)
        self._rows.append(self.trainer.step_rows)
        self._is_made = len(self._seconds) == FIRST_STEPS or state.global_step >= state.max_steps
        if self._is_made and state.is_world_process_zero:
            self.trainer.run.update_manifest(forecast=asdict(self._forecast(self.trainer)))

    def _forecast(self, trainer: PoiseTrainer) -> Forecast:
        steps, left = trainer.state.max_steps, trainer.state.max_steps - trainer.state.global_step
        model, way = trainer.scorer.causal_lm, trainer.scorer.way
        checkpointing = bool(self.recipe.training.get("activation_checkpointing"))
        train, forward = training_price(model, checkpointing=checkpointing), forward_price(model)
        steady = list(zip(self._rows, self._seconds, strict=True))[1:] or [(self._rows[0], self._seconds[0])]
        per_operation = sum(seconds for _, seconds in steady) / sum(train.of(work_of(rows, way)) for rows, _ in steady)
        sample = self.rows[:: max(1, len(self.rows) // ROWS_SAMPLED)]
        mean_row = train.of(work_of(sample, way)) / len(sample)
        rows_per_step = len(self._rows[0])
        held_out: Any = trainer.eval_dataset
        held_out_work = forward.of(work_of(held_out.rows, way)) if held_out is not None else 0.0
        trained = sum(each.numel() * each.element_size() for each in trainer.scorer.parameters() if each.requires_grad)
        step_seconds = per_operation * mean_row * rows_per_step
        parts = {
            "so far": time.monotonic() - self.began,
            "training": left * step_seconds,
            "evaluation": evaluations(self.recipe, left) * held_out_work * per_operation,
            "checkpoints": checkpoints(self.recipe, left) * 3 * trained / BYTES_PER_SECOND,
            "questions after": self.asking,
            "saving": trained / BYTES_PER_SECOND,
        }
        return Forecast(
            seconds=sum(parts.values()),
            peak_memory_bytes=self._peak(trainer, steps, rows_per_step),
            step_seconds=step_seconds,
            parts={name: seconds for name, seconds in parts.items() if seconds},
            by="the run's own first steps",
        )

    def _peak(self, trainer: PoiseTrainer, steps: int, rows_per_step: int) -> int:
        """Scale what the steps so far added, the optimizer's state apart, to the largest micro-batch to come."""
        scorer, budget = trainer.scorer, trainer.micro_batch_tokens
        laid_out = lay_out(self.recipe, self.rows, rows_per_step, min(steps, STEPS_SAMPLED), scorer, budget)
        largest = max(sum(map(scorer.tokens, group)) for group in laid_out.groups)
        seen = max(sum(map(scorer.tokens, group)) for rows in self._rows for group in pack(rows, budget, scorer.tokens))
        peak = peak_memory_bytes(trainer.args.device)
        optimizer: Any = trainer.optimizer
        kept = sum(
            value.numel() * value.element_size()
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        )
        activations = max(0, peak - self._peak_before - kept)
        return int(peak + activations * max(0.0, largest / seen - 1))
