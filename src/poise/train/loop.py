"""The training loop of a run: the Trainer with its callbacks, and how it ends when a signal stops it."""

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed

from poise.batch.score import Scorer
from poise.errors import InterruptedRun, PoiseError
from poise.recipe import Recipe
from poise.run import Run
from poise.train import processes
from poise.train.arguments import training_arguments
from poise.train.checkpoint import Checkpoint
from poise.train.diagnosing import Diagnose
from poise.train.divergence import Watch
from poise.train.guard import GoBack, Guard
from poise.train.model import Hardware, save_model
from poise.train.moving import Follow, FollowingReference
from poise.train.prepare import Prepared
from poise.train.processes import agreed
from poise.train.reference import Reference
from poise.train.replay import Decode
from poise.train.rollback import left_out, roll_back
from poise.train.shown import ShowProgress, close_display, display_closed
from poise.train.stopping import StopGently, stop_signals
from poise.train.trainer import PoiseTrainer


def make_trainer(
    recipe: Recipe,
    run: Run,
    prepared: Prepared,
    scorer: Scorer,
    reference: Reference | FollowingReference | None,
    hardware: Hardware,
    base_sha256: str,
    budget: int,
    identity: Mapping[str, Any],
    changed: Collection[str],
) -> PoiseTrainer:
    """Put the Trainer of a run together."""

    def save(folder: Path, weights: dict[str, Any] | None) -> None:
        save_model(scorer.model, prepared.tokenizer, folder, base_sha256, weights)

    guess = None if recipe.objective.needs_reference else math.log(len(prepared.tokenizer.tokenizer))
    return PoiseTrainer(
        scorer,
        recipe.objective,
        training_arguments(recipe, run, hardware),
        run,
        prepared.rendered.train,
        eval_rows=prepared.rendered.held_out,
        reference=reference,
        micro_batch_tokens=budget,
        save=save,
        guard=Guard(run, recipe.poise.on_divergence, watch=Watch(guess), decode=decoder(prepared)),
        callbacks=[
            *([Follow(reference)] if isinstance(reference, FollowingReference) else []),
            ShowProgress(recipe.verb),
            StopGently(),
            *([Diagnose(recipe, run)] if recipe.objective.unit == "pairs" else []),
            *([DrawApart()] if processes.count() > 1 else []),
        ],
        identity=identity,
        changed=changed,
    )


def decoder(prepared: Prepared) -> Decode:
    """Return what turns a run's token ids into text."""
    return lambda ids: str(prepared.tokenizer.tokenizer.decode(ids))


def run_loop(trainer: PoiseTrainer, run: Run, checkpoint: Checkpoint | None, finish: Callable[[], None]) -> None:
    """Train to the end and `finish`, or raise InterruptedRun after saving."""
    device = trainer.args.device
    with stop_signals(trainer) as gently, display_closed(trainer):
        _train(trainer, run, checkpoint)
        if gently.was_asked(device):
            raise _interrupted(trainer, run, str(gently.signal))
        finish()
        if gently.was_asked(device):
            raise _interrupted(trainer, run, str(gently.signal))


def _train(trainer: PoiseTrainer, run: Run, checkpoint: Checkpoint | None) -> None:
    """Train to the end, over again from a checkpoint where the guard says so."""
    while True:
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        except GoBack as wrong:
            close_display(trainer)
            checkpoint = roll_back(run, wrong)
            trainer.skip(left_out(run))
        else:
            return


def _interrupted(trainer: PoiseTrainer, run: Run, signal: str) -> PoiseError:
    step, steps = trainer.state.global_step, trainer.state.max_steps
    if not trainer.args.load_best_model_at_end:  # its weights would now be in place of this step's
        trainer.save_now()
    left = "the questions after training are left" if step == steps else "the rest is left"
    message = (
        f"stopped by {signal} after step {step} of {steps}; everything up to there is saved in "
        f"{run.path}/checkpoints/checkpoint-{step}, {left}\n    to do:  run the same command with --resume to go on"
    )
    return agreed(InterruptedRun(message))


class DrawApart(TrainerCallback):
    """Let dropout draw differently in each process; before training, all drew the same new weights."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seed by the recipe and the process's number; a resumed run goes on from its checkpoint's state."""
        set_seed(args.seed + processes.rank())
