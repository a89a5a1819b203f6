"""The probe: a few real micro-steps on the recipe's own rows, and from them the time and memory of the whole run.

The largest micro-batch of the run shows its peak memory; some that are as near as possible to the mean of all show its
speed, because the run is N times the mean whatever the cost is a function of. What the mean leaves over is laid along
the line through the two, with the known operations of each micro-batch as its abscissa:

    seconds(run) = N typical + (operations(run) - N operations(typical)) x slope

The first two are run before timing begins: they pay for allocations and the choice of kernels. The weights stay as they
are (learning rate 0), nothing is kept, and the random numbers go on as if nothing had happened.
"""

import os
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

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
from poise.train.forecast import BY_PROBE, Forecast, checkpoints, evaluations
from poise.train.memory import told_plainly
from poise.train.micro_steps import Chosen, MicroSteps, Pace, choose, clock, fit_pace, take_micro_steps
from poise.train.model import quiet_libraries
from poise.train.moving import FollowingReference
from poise.train.peak_memory import peak_memory_bytes
from poise.train.prepare import Prepared, rows_per_step
from poise.train.reference import Reference, missing_from, pass_tokens
from poise.train.reference_of import make_reference, reference_store
from poise.train.work import Layout, forward_price, lay_out, training_price

FORWARD_TIMED = 5
"""Passes without gradient, of which the first two are not counted."""
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
    trainer, took = take_micro_steps(recipe, run, prepared, assembled, reference, chosen)
    while trainer.micro_batch_tokens < tokens:  # memory ran out: the run will go on with the smaller budget, too
        tokens = trainer.micro_batch_tokens
        layout, chosen = _micro_batches(recipe, train, steps, scorer, tokens)
        assembled = replace(assembled, micro_batch_tokens=tokens)
        _, reference = forward.reference([], chosen.rows)
        trainer, took = take_micro_steps(recipe, run, prepared, assembled, reference, chosen)
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


def _training_seconds(layout: Layout, chosen: Chosen, trainer: MicroSteps, took: float) -> tuple[float, float]:
    """Return what training takes before it is under way, and then for each step."""
    pace, between = fit_pace(chosen, trainer.timed), trainer.between_steps
    later = sum(ended - began for _, began, ended in trainer.steps[1:]) + len(trainer.steps) * between
    start_up = took - later - pace.seconds([chosen.largest])  # the first step's too long part is in it
    return max(0.0, start_up), pace.seconds(layout.groups) / layout.steps + between


def _micro_batches(
    recipe: Recipe, rows: Sequence[Row], steps: int, scorer: Scorer, tokens: int
) -> tuple[Layout, Chosen]:
    layout = lay_out(recipe, rows, rows_per_step(recipe), steps, scorer, tokens)
    checkpointing = bool(recipe.training.get("activation_checkpointing"))
    return layout, choose(layout.groups, training_price(scorer.causal_lm, checkpointing=checkpointing), scorer)


class _ForwardPasses:
    """Passes without gradient: the reference's and those of evaluation."""

    def __init__(self, recipe: Recipe, assembled: Assembled) -> None:
        self.recipe, self.assembled = recipe, assembled
        self._price = forward_price(assembled.scorer.causal_lm)
        self._pace: Pace | None = None

    def seconds(self, groups: Sequence[list[Row]]) -> float:
        """Return what a pass over these micro-batches takes; the first call times the largest and typical ones."""
        if not groups:
            return 0.0
        if self._pace is None:
            chosen = choose(groups, self._price, self.assembled.scorer)
            timed = [(group, self._score(group)) for group in chosen.schedule[:FORWARD_TIMED]]
            self._pace = fit_pace(chosen, timed[2:])
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
        began = clock(scorer.device)
        with torch.no_grad(), self.assembled.hardware.computing():
            scorer(make_batch(rows).to(scorer.device)).values.float().cpu()
        ended = clock(scorer.device)
        scorer.train(was_training)
        return ended - began


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
