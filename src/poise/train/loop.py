"""The training loop of a run: the Trainer with its callbacks, and how it ends when a signal stops it."""

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
    identity: Mapping[str, Any],
    changed: Collection[str],
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
        identity=identity,
        changed=changed,
    )


def run_loop(trainer: PoiseTrainer, run: Run, checkpoint: Checkpoint | None, finish: Callable[[], None]) -> None:
    """Train to the end and `finish`, or raise InterruptedRun after saving."""
    device = trainer.args.device
    with stop_signals(trainer) as gently, display_closed(trainer):
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        if gently.was_asked(device):
            raise _interrupted(trainer, run, str(gently.signal))
        finish()
        if gently.was_asked(device):
            raise _interrupted(trainer, run, str(gently.signal))


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
