"""The probe: a few real micro-steps on the recipe's own rows, and from them the time and memory of the whole run.

The largest micro-batch of the run shows its peak memory; some that are as near as possible to the mean of all show its
speed, because the run is N times the mean whatever the cost is a function of. What the mean leaves over is laid along
the line through the two, with the known operations of each micro-batch as its abscissa:

    seconds(run) = N typical + (operations(run) - N operations(typical)) x slope

The first two are run before timing begins: they pay for allocations and the choice of kernels. The weights stay as they
are (learning rate 0), nothing is kept, and the random numbers go on as if nothing had happened.
"""

import itertools
import os
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poise.batch.batch import make_batch
from poise.batch.pack import pack
from poise.batch.render import Renderer
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.errors import RecipeError
from poise.recipe import Recipe
from poise.run import Run
from poise.train.assemble import Assembled, assemble
from poise.train.data import Loaded
from poise.train.forecast import BY_PROBE, BYTES_PER_SECOND, Forecast, checkpoints, evaluations
from poise.train.memory import told_plainly
from poise.train.model import quiet_libraries, save_model
from poise.train.moving import Follow, FollowingReference
from poise.train.reference import Reference, missing_from, pass_tokens
from poise.train.train import Prepared, make_reference, reference_store, rows_per_step, training_arguments
from poise.train.trainer import PoiseTrainer, peak_memory_bytes
from poise.train.work import Layout, Price, forward_price, lay_out, training_price, work_of

TYPICAL = 6
"""Micro-batches nearest to the mean that are timed, where there is time for them."""
SECONDS_TIMED = 4.0
"""Timing stops after this long, once a typical and the largest micro-batch were timed."""
WORTH_A_SLOPE = 1.2
"""How many times the typical operations the largest micro-batch must have for the line to be drawn through both."""
FORWARD_TIMED = 5
"""Passes without gradient, of which the first two are not counted."""
BYTES_SAVED = 1 << 30
"""Weights up to this size are written once, to time it, into a folder that is removed."""

AskSeconds = Callable[[Any, Renderer, Loaded], tuple[float, float]]
"""Called with (model, renderer, examples): seconds that the questions will take before and after training."""


def probe(recipe: Recipe, prepared: Prepared, began: float, ask: AskSeconds | None = None) -> Forecast:
    """Load the model, take a few micro-steps and forecast the run; `began` is `time.monotonic()` before the data.

    Raises RecipeError in one process of several, and every error that the run would raise before its first step.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("--probe forecasts a run in one process\n    to do:  start it without torchrun or accelerate")
    quiet_libraries()
    with told_plainly(), _random_numbers_kept(), TemporaryDirectory(prefix="poise-probe-") as folder:
        elsewhere = recipe.model_copy(update={"training": {**recipe.training, "output_dir": folder}})
        return _probe(elsewhere, prepared, Run(Path(folder)), began, ask)


def _probe(recipe: Recipe, prepared: Prepared, run: Run, began: float, ask: AskSeconds | None) -> Forecast:
    train, held_out = prepared.rendered.train, prepared.rendered.held_out
    parts = {"reading and rendering": time.monotonic() - began}
    started = time.monotonic()
    assembled = assemble(recipe, prepared.tokenizer, prepared.rendered)
    parts["model"] = time.monotonic() - started
    scorer, tokens = assembled.scorer, assembled.micro_batch_tokens
    steps = prepared.optimizer_steps(recipe)
    layout, chosen = _micro_batches(recipe, train, steps, scorer, tokens)
    forward = _ForwardPasses(recipe, assembled)
    parts["reference"], reference = forward.reference([*train, *held_out], chosen.rows)
    before, after = ask(scorer.model, prepared.renderer, prepared.loaded) if ask else (0.0, 0.0)
    parts["questions before"] = before
    trainer, took = _micro_steps(recipe, run, prepared, assembled, reference, chosen)
    while trainer.micro_batch_tokens < tokens:  # memory ran out: the run will go on with the smaller budget, too
        tokens = trainer.micro_batch_tokens
        layout, chosen = _micro_batches(recipe, train, steps, scorer, tokens)
        assembled = replace(assembled, micro_batch_tokens=tokens)
        _, reference = forward.reference([], chosen.rows)
        trainer, took = _micro_steps(recipe, run, prepared, assembled, reference, chosen)
    start_up, step = _training_seconds(layout, chosen, trainer, took)
    if recipe.objective.whole_step and len(layout.groups) > layout.steps:
        step += forward.seconds(layout.groups) / layout.steps  # it scores every micro-batch twice
    parts["training"] = start_up + steps * step
    parts["evaluation"] = evaluations(recipe, steps) * forward.seconds(pack(held_out, tokens, scorer.tokens))
    peak = peak_memory_bytes(assembled.hardware.device)
    saved, with_optimizer = trainer.seconds_to_save(run.path / "model")
    parts["checkpoints"] = checkpoints(recipe, steps) * with_optimizer
    parts["saving"] = saved
    parts["questions after"] = after
    return Forecast(
        seconds=sum(parts.values()),
        peak_memory_bytes=peak,
        step_seconds=step,
        parts={name: seconds for name, seconds in parts.items() if seconds},
        by=BY_PROBE,
    )


def _training_seconds(layout: Layout, chosen: "_Chosen", trainer: "_MicroSteps", took: float) -> tuple[float, float]:
    """Return what training takes before it is under way, and then for each step."""
    pace, between = _pace(chosen, trainer.timed), trainer.between_steps
    later = sum(ended - began for _, began, ended in trainer.steps[1:]) + len(trainer.steps) * between
    start_up = took - later - pace.seconds([chosen.largest])  # the first step's too long part is in it
    return max(0.0, start_up), pace.seconds(layout.groups) / layout.steps + between


def _micro_batches(
    recipe: Recipe, rows: Sequence[Row], steps: int, scorer: Scorer, tokens: int
) -> tuple[Layout, "_Chosen"]:
    layout = lay_out(recipe, rows, rows_per_step(recipe), steps, scorer, tokens)
    checkpointing = bool(recipe.training.get("activation_checkpointing"))
    return layout, _choose(layout.groups, training_price(scorer.causal_lm, checkpointing=checkpointing), scorer)


@dataclass(frozen=True)
class _Chosen:
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


def _choose(groups: Sequence[list[Row]], price: Price, scorer: Scorer) -> _Chosen:
    """Take the largest micro-batch and those whose operations and pieces are nearest to the mean."""
    works = [work_of(group, scorer.way) for group in groups]
    operations = np.array([price.of(work) for work in works])
    pieces = np.array([work.pieces for work in works], dtype=float)
    distance = abs(operations / operations.mean() - 1) + abs(pieces / pieces.mean() - 1)
    nearest = np.argsort(distance, kind="stable")[:TYPICAL]
    largest = max(range(len(groups)), key=lambda index: (works[index].tokens, works[index].keys))
    return _Chosen(
        largest=groups[largest],
        typical=[groups[index] for index in nearest],
        operations=lambda rows: price.of(work_of(rows, scorer.way)),
    )


@dataclass(frozen=True)
class _Pace:
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


def _pace(chosen: _Chosen, timed: Sequence[tuple[Sequence[Row], float]]) -> _Pace:
    """Draw the line; through the origin where the largest micro-batch is hardly larger than the typical ones."""
    largest = [(chosen.operations(rows), seconds) for rows, seconds in timed if rows is chosen.largest]
    others = [(chosen.operations(rows), seconds) for rows, seconds in timed if rows is not chosen.largest] or largest
    operations, seconds = (mean(values) for values in zip(*others, strict=True))
    slope = seconds / operations
    most, longest = (mean(values) for values in zip(*largest, strict=True))
    if most > WORTH_A_SLOPE * operations:
        slope = max(0.0, (longest - seconds) / (most - operations))
    return _Pace(seconds, operations, slope, chosen.operations)


class _MicroSteps(PoiseTrainer):
    """The trainer, with the micro-batches of a schedule in the place of its own."""

    def __init__(self, chosen: _Chosen, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.schedule = chosen.schedule
        self.steps: list[tuple[Sequence[Row], float, float]] = []
        """Micro-batch, begin and end of each step so far."""

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Run the next micro-batch of the schedule and take the time."""
        group = self.schedule[len(self.steps)]
        began = _clock(self.args.device)
        loss = super().training_step(model, {"rows": group})
        self.steps.append((group, began, _clock(self.args.device)))
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
        self._save_weights(folder)
        saved = time.monotonic()
        self._save_checkpoint(self.model, None)
        return saved - began, time.monotonic() - saved


def _micro_steps(
    recipe: Recipe,
    run: Run,
    prepared: Prepared,
    assembled: Assembled,
    reference: Reference | FollowingReference | None,
    chosen: _Chosen,
) -> tuple[_MicroSteps, float]:
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
    trainer = _MicroSteps(
        chosen,
        assembled.scorer,
        recipe.objective,
        training_arguments(alone, run, assembled.hardware),
        run,
        prepared.rendered.train,
        reference=reference,
        micro_batch_tokens=assembled.micro_batch_tokens,
        save=lambda folder: save_model(assembled.scorer.model, prepared.tokenizer, folder, assembled.base_sha256),
        callbacks=[Follow(reference)] if isinstance(reference, FollowingReference) else [],
    )
    trainer.train()
    return trainer, time.monotonic() - began


class _ForwardPasses:
    """Passes without gradient: the reference's and those of evaluation."""

    def __init__(self, recipe: Recipe, assembled: Assembled) -> None:
        self.recipe, self.assembled = recipe, assembled
        self._price = forward_price(assembled.scorer.causal_lm)
        self._pace: _Pace | None = None

    def seconds(self, groups: Sequence[list[Row]]) -> float:
        """Return what a pass over these micro-batches takes; the first call times the largest and typical ones."""
        if not groups:
            return 0.0
        if self._pace is None:
            chosen = _choose(groups, self._price, self.assembled.scorer)
            timed = [(group, self._score(group)) for group in chosen.schedule[:FORWARD_TIMED]]
            self._pace = _pace(chosen, timed[2:])
        return self._pace.seconds(groups)

    def reference(
        self, rows: Sequence[Row], needed: Sequence[Row]
    ) -> tuple[float, Reference | FollowingReference | None]:
        """Return the seconds that the reference will take over all rows, and a reference for the rows needed here."""
        if not self.recipe.objective.needs_reference:
            return 0.0, None
        scorer, tokens = self.assembled.scorer, self.assembled.micro_batch_tokens
        began = time.monotonic()
        reference = make_reference(
            self.recipe, needed, scorer, self.assembled.hardware, self.assembled.policy_sha256, tokens, store=None
        )
        taken = time.monotonic() - began
        if not isinstance(reference, Reference):
            return taken, reference
        with self.assembled.hardware.computing():
            missing = missing_from(reference_store(self.recipe), rows, scorer, reference.weights_sha256)
        tokens = pass_tokens(tokens, scorer.device)
        whole = self.seconds(pack(missing, tokens, scorer.tokens))
        return whole + max(0.0, taken - self.seconds(pack(needed, tokens, scorer.tokens))), reference

    def _score(self, rows: Sequence[Row]) -> float:
        scorer = self.assembled.scorer
        was_training = scorer.training
        scorer.eval()
        began = _clock(scorer.device)
        with torch.no_grad(), self.assembled.hardware.computing():
            scorer(make_batch(rows).to(scorer.device)).values.float().cpu()
        ended = _clock(scorer.device)
        scorer.train(was_training)
        return ended - began


def _clock(device: torch.device) -> float:
    """Return the time at which everything sent to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.monotonic()


@contextmanager
def _random_numbers_kept() -> Generator[None]:
    """Leave every generator as it was."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if on_cuda:
            torch.cuda.set_rng_state_all(on_cuda)
