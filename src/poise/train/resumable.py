"""A Trainer whose checkpoints are sealed folders without pickles, and which goes on from one as if it had not stopped.

transformers' loop decides when; here is what is written and read. Everything is taken at the boundary of a step, before
the next batch is drawn: optimizer, schedule, random numbers of every process, and the counters of the loop.
"""

import logging
import random
import shutil
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput

from poise.errors import RunError
from poise.run import now
from poise.sealed import stage
from poise.train.checkpoint import NAME, commit, load_weights, rotate, written
from poise.train.layout import layout_here
from poise.train.processes import main_alone, rank, together
from poise.train.sharded import (
    divide_as_asked,
    gathered_optimizer,
    gathered_weights,
    give_optimizer,
    without_prefix,
)
from poise.train.sizes import state_bytes, weight_bytes
from poise.train.state_file import load_state, save_state

T = TypeVar("T")

HYPERPARAMETERS = {
    "weight_decay": "weight_decay",
    "adam_beta1": "betas",
    "adam_beta2": "betas",
    "adam_epsilon": "eps",
}
"""Recipe key -> what it is called in an optimizer's groups."""
SCHEDULE_KEYS = frozenset(
    ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_steps", "num_train_epochs")
)
"""Recipe keys that the learning rate of a step follows from."""


class ResumableTrainer(Trainer):
    """transformers.Trainer with other checkpoints: what is in them, how they are written, what is taken up again."""

    def __init__(self, *, identity: Mapping[str, Any], changed: Collection[str], **options: Any) -> None:
        """Take what a checkpoint belongs to, and the recipe keys that differ from the one that is gone on from."""
        self._identity, self._changed = identity, frozenset(changed)
        arguments = options["args"]
        self._keep, arguments.save_total_limit = arguments.save_total_limit, None  # transformers would remove any
        super().__init__(**options)
        self._saved_step = -1
        self._counters: dict[str, Any] = {}
        self.add_callback(_TakeUp(self))

    def create_accelerator_and_postprocess(self) -> None:
        """Let what accelerate made divide weights wherever it was told to."""
        super().create_accelerator_and_postprocess()
        divide_as_asked(self.accelerator)
        self.is_fsdp_enabled = getattr(self.accelerator.state, "fsdp_plugin", None) is not None

    def save_weights(self, folder: Path, weights: dict[str, Any] | None = None) -> None:
        """Write the model as it can be loaded by itself, with `weights` where they were gathered."""
        raise NotImplementedError

    def policy(self) -> Any:
        """Return the model that `save_weights` writes."""
        raise NotImplementedError

    def counters(self) -> dict[str, Any]:
        """Return what is summed up over steps, for a checkpoint."""
        return {
            "loss": self._tr_loss,
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
        }

    def take_up(self, counters: dict[str, Any]) -> None:
        """Go on summing up from a checkpoint's counters."""
        self._tr_loss.copy_(counters["loss"])
        self._total_loss_scalar = counters["total_loss"]
        self._globalstep_last_logged = counters["last_logged"]

    def is_doubtful(self) -> bool:
        """Whether older checkpoints may yet be wanted instead of this one."""
        return False

    def save_more(self, folder: Path) -> None:
        """Write what else a checkpoint needs; called in the main process."""

    def load_more(self, folder: Path) -> None:
        """Read what `save_more` wrote."""

    def gathered(self) -> dict[str, Any] | None:
        """Collect the whole weights in the main process; None where every process has them. All take part."""
        if self.is_fsdp_enabled:
            return gathered_weights(self.model, trained_alone=hasattr(self.policy(), "peft_config"))
        if layout_here().stage == 3:
            return without_prefix(self.accelerator.get_state_dict(self.model_wrapped) or {})
        return None

    def save_now(self) -> None:
        """Write a checkpoint of where training stands, unless there is one."""
        self._save_checkpoint(self.model, None)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write into staging, seal, rename: every process its own state, the main one everything else."""
        if self._saved_step == self.state.global_step:
            return
        folder = Path(str(self.args.output_dir))
        final = folder / f"{NAME}{self.state.global_step}"
        needed = weight_bytes(self.policy()) + state_bytes(self.optimizer)
        is_resumable = not self.args.save_only_model or bool(self.control.should_training_stop)
        together_or_alone = _here if self._is_sharded else together
        staging = main_alone(_told(lambda: stage(folder), final, needed))
        try:
            together_or_alone(_told(lambda: self._write(staging, is_resumable), final, needed))
            main_alone(_told(lambda: self._commit(staging, final, is_resumable), final, needed))
        except BaseException:
            if self.is_world_process_zero():
                shutil.rmtree(staging, ignore_errors=True)  # what is there is good, and needs the room
            raise
        self._saved_step = self.state.global_step

    def _write(self, staging: Path, is_resumable: bool) -> None:
        self.store_flos()
        weights = self.gathered()
        if weights is not None:
            main_alone(lambda: self.save_weights(staging, weights))
        elif self.is_world_process_zero():
            self.save_weights(staging)
        if is_resumable:
            self._save_optimizer_and_scheduler(str(staging))
            save_state(staging / f"process-{rank()}", {"random": _random_state(), "counters": self.counters()})

    def _commit(self, staging: Path, final: Path, is_resumable: bool) -> None:
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(final)
        self._export_callbacks()
        self.state.save_to_json(str(staging / "trainer_state.json"))
        self.save_more(staging)
        facts = {
            "step": self.state.global_step,
            "epoch": self.state.epoch,
            "rows_seen": self.state.global_step * self.args.train_batch_size * self.args.world_size,
            "is_resumable": is_resumable,
            "created": now(),
            "identity": self._identity,
        }
        commit(staging, final, facts)
        rotate(final.parent, None if self.is_doubtful() else self._keep, self.state.best_model_checkpoint)

    def _export_callbacks(self) -> None:
        held: Any = self.state.stateful_callbacks
        for each in [*self.callback_handler.callbacks, self.control]:
            if isinstance(each, ExportableState):
                held[type(each).__name__] = each.state()

    @property
    def _is_sharded(self) -> bool:
        """Whether the processes exchange weights in every pass, not gradients in the last one alone."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        optimizer: Any = self.optimizer
        if self.is_deepspeed_enabled:  # its own files, hashed like all others
            super()._save_optimizer_and_scheduler(output_dir)
            super()._save_scaler(output_dir)
            return
        state = gathered_optimizer(self.model, optimizer) if self.is_fsdp_enabled else optimizer.state_dict()
        if self.args.should_save:
            scheduler: Any = self.lr_scheduler
            save_state(Path(output_dir) / "optimizer", state)
            save_state(Path(output_dir) / "schedule", {"schedule": scheduler.state_dict()})

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        if resume_from_checkpoint is not None and self._is_sharded:  # while every process has all weights
            load_weights(self.policy(), Path(resume_from_checkpoint))
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._is_sharded:
            return
        load_weights(self.policy(), Path(resume_from_checkpoint))
        self.load_more(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        optimizer: Any = self.optimizer
        scheduler: Any = self.lr_scheduler
        fresh = [dict(group) for group in optimizer.param_groups]
        if self.is_deepspeed_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            if self.is_fsdp_enabled:
                state = load_state(Path(checkpoint) / "optimizer") if self.is_world_process_zero() else {}
                give_optimizer(self.model, optimizer, state)
            else:
                optimizer.load_state_dict(load_state(Path(checkpoint) / "optimizer"))
            scheduler.load_state_dict(load_state(Path(checkpoint) / "schedule")["schedule"])
        for group, anew in zip(optimizer.param_groups, fresh, strict=True):
            names = {HYPERPARAMETERS[key] for key in self._changed & HYPERPARAMETERS.keys()}
            group.update({name: anew[name] for name in names & anew.keys()})
        if self._changed & SCHEDULE_KEYS:
            _follow_new_schedule(scheduler, fresh, scheduler.last_epoch)

    def _load_scaler(self, checkpoint: str | None) -> None:
        if self.is_deepspeed_enabled:
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            _set_random_state(load_state(Path(checkpoint) / f"process-{rank()}")["random"])

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, resume_from_checkpoint: Any,
        trial: Any,
    ) -> tuple[int, int]:  # fmt: skip
        with _told_already():
            begun = super()._init_training_state(
                max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
            )
        if resume_from_checkpoint is not None:
            self.state.compute_steps(self.args, max_steps)  # transformers would keep the old intervals
            self._counters = load_state(Path(resume_from_checkpoint) / f"process-{rank()}")["counters"]
            self._saved_step = self.state.global_step
            self._find_best(Path(resume_from_checkpoint))
        return begun

    def _find_best(self, checkpoint: Path) -> None:
        """Take the best checkpoint for the one beside this one: the run may have been moved."""
        said = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")).best_model_checkpoint
        beside = checkpoint.parent / Path(said).name if said else None
        if beside is not None and beside.is_dir():
            self.state.best_model_checkpoint = str(beside)

    def _run_epoch(self, *arguments: Any, **options: Any) -> None:
        """Make no step after the last one, as transformers would from a checkpoint in the middle of an epoch."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*arguments, **options)

    def _finalize_training(self, *arguments: Any, **options: Any) -> TrainOutput:
        output = super()._finalize_training(*arguments, **options)
        return TrainOutput(output.global_step, self.train_loss, {**output.metrics, "train_loss": self.train_loss})

    @property
    def train_loss(self) -> float:
        """The mean loss of all steps of the run, of which this process may have made a part."""
        return self._total_loss_scalar / max(self.state.global_step, 1)

    def _load_best_model(self) -> None:
        load_weights(self.policy(), Path(str(self.state.best_model_checkpoint)))


class _TakeUp(TrainerCallback):
    """Hand the counters of a checkpoint over once the loop has set its own to zero."""

    def __init__(self, trainer: ResumableTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Restore them, if there are any."""
        if self.trainer._counters:  # pyright: ignore[reportPrivateUsage]
            self.trainer.take_up(self.trainer._counters)  # pyright: ignore[reportPrivateUsage]


def _told(work: Callable[[], T], final: Path, needed: int) -> Callable[[], T]:
    """Do work that writes a checkpoint, and say of a disk that fails what it was."""

    def inner() -> T:
        with written(final.name, final.parent, needed):
            return work()

    return inner


@contextmanager
def _told_already() -> Generator[None]:
    """Keep transformers from warning of changes that are listed and applied."""
    logger = logging.getLogger("transformers.trainer_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _here(work: Callable[[], T]) -> T:
    return work()


def _follow_new_schedule(scheduler: Any, fresh: list[dict[str, Any]], updates: int) -> None:
    """Set the learning rate that the changed recipe has after this many updates."""
    if not isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
        raise RunError(f"a {type(scheduler).__name__} follows from what it has seen; its settings cannot change")
    scheduler.base_lrs = [group["initial_lr"] for group in fresh]
    scheduler.last_epoch, scheduler._step_count = updates, updates + 1  # pyright: ignore[reportPrivateUsage]
    rates = [base * rate(updates) for base, rate in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
    for group, base, rate in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, rates, strict=True):
        group["initial_lr"], group["lr"] = base, rate
    scheduler._last_lr = rates  # pyright: ignore[reportPrivateUsage]


def _random_state() -> dict[str, Any]:
    """Collect the state of every generator that training may draw from."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
