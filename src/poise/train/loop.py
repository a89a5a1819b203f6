"""The training loop of a run: the Trainer with its callbacks, and how it ends when a signal stops it."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed

from poise.batch.score import Scorer
from poise.errors import InterruptedRun
from poise.recipe import Recipe
from poise.run import Run
from poise.train import processes
from poise.train.arguments import training_arguments
from poise.train.model import Hardware, save_model
from poise.train.moving import Follow, FollowingReference
from poise.train.prepare import Prepared
from poise.train.processes import agreed
from poise.train.reference import Reference
from poise.train.shown import ShowProgress, display_closed
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
) -> PoiseTrainer:
    """Put the Trainer of a run together."""

    def save(folder: Path) -> None:
        save_model(scorer.model, prepared.tokenizer, folder, base_sha256)

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
        callbacks=[
            *([Follow(reference)] if isinstance(reference, FollowingReference) else []),
            ShowProgress(recipe.verb),
            StopGently(),
            *([DrawApart()] if processes.count() > 1 else []),
        ],
    )


def run_loop(trainer: PoiseTrainer, run: Run, checkpoint: Path | None) -> None:
    """Train to the end, or raise InterruptedRun after saving."""
    with stop_signals(trainer), display_closed(trainer):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    stopped = next(
        callback.signal for callback in trainer.callback_handler.callbacks if isinstance(callback, StopGently)
    )
    if stopped is not None and trainer.state.global_step < trainer.state.max_steps:
        step = trainer.state.global_step
        message = (
            f"stopped by {stopped} after step {step} of {trainer.state.max_steps}; everything up to there is saved in "
            f"{run.path}/checkpoints/checkpoint-{step}\n    to do:  run the same command with --resume to go on"
        )
        raise agreed(InterruptedRun(message))


class DrawApart(TrainerCallback):
    """Let dropout draw differently in each process; before training, all drew the same new weights."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seed by the recipe and the process's number; a resumed run goes on from its checkpoint's state."""
        set_seed(args.seed + processes.rank())
