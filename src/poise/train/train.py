"""Train: from a Recipe to a model in a Run folder, in the order that finds a mistake before it costs anything.

data -> rows -> model -> checks -> reference -> questions before -> training -> model saved -> questions after
"""

import dataclasses
import math
import platform
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainingArguments, set_seed

from poise import __version__, progress
from poise.batch.render import Renderer
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.batch.tokens import PreparedTokenizer, prepare_tokenizer
from poise.cache import cache_folder
from poise.errors import DataError, InterruptedRun, PoiseError, ResourceError, RunError, StoppedElsewhere
from poise.recipe import Recipe
from poise.run import Drop, Run, now, write_whole
from poise.train import processes
from poise.train.assemble import assemble
from poise.train.check import check_reference
from poise.train.data import Loaded, Rendered, load_examples, render
from poise.train.forecast import forecast_run
from poise.train.memory import told_plainly
from poise.train.model import (
    Hardware,
    load_model,
    load_tokenizer,
    parameter_counts,
    quiet_libraries,
    save_model,
)
from poise.train.moving import Follow, FollowingReference
from poise.train.optimizer import choose_optimizer
from poise.train.processes import agreed, is_main, main_alone, together
from poise.train.reference import Reference, reference_for
from poise.train.trainer import PoiseTrainer, newest_checkpoint

SHOWN = {
    "loss": "loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "tokens_per_second": "tok/s",
}
"""Metrics beside the progress bar, and what they are called there."""

Ask = Callable[[str, Any, Renderer, Loaded], None]
"""Called with ("before" | "after", model, renderer, examples) to collect evidence."""


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the model is loaded."""

    loaded: Loaded
    rendered: Rendered
    renderer: Renderer
    tokenizer: PreparedTokenizer

    @property
    def drops(self) -> list[Drop]:
        """Every row that is not trained on."""
        return [*self.loaded.drops, *self.rendered.drops]

    def optimizer_steps(self, recipe: Recipe, processes: int = 1) -> int:
        """Updates the run will make."""
        training = recipe.training
        if training.get("max_steps", -1) > 0:
            return int(training["max_steps"])
        rows = -(-len(self.rendered.train) // processes)
        return math.ceil(-(-rows // rows_per_step(recipe)) * float(training["num_train_epochs"]))


def rows_per_step(recipe: Recipe) -> int:
    """Rows of one optimizer step on one process."""
    return int(recipe.training["per_device_train_batch_size"] * recipe.training["gradient_accumulation_steps"])


def prepare(recipe: Recipe) -> Prepared:
    """Read and render the data; every complaint about it comes from here, before a model is loaded."""
    loaded = load_examples(recipe.data, recipe.objective.rows, recipe.verb)
    tokenizer = prepare_tokenizer(load_tokenizer(recipe.model), recipe.model.chat_template, recipe.model.eos_token)
    renderer = Renderer(tokenizer, recipe.data.max_length, recipe.data.max_prompt_length, recipe.data.overlong)
    return Prepared(loaded, render(loaded, renderer, recipe.data, recipe.objective, recipe.verb), renderer, tokenizer)


def train(recipe: Recipe, run: Run, *, resume: bool = False, overwrite: bool = False, ask: Ask | None = None) -> None:
    """Train as the recipe says; raises InterruptedRun after saving when stopped by Ctrl-C or SIGTERM.

    Of several processes the main one writes and tells; the others raise StoppedElsewhere where it fails.
    """
    quiet_libraries()
    processes.meet(
        use_cpu=bool(recipe.training.get("use_cpu")),
        backend=recipe.training.get("ddp_backend"),
        timeout_seconds=float(recipe.training.get("ddp_timeout") or 1800),
    )
    main_alone(run.lock)
    try:
        checkpoint = main_alone(lambda: _starting_point(run, resume, overwrite))
        with _outcome_told(run), told_plainly():
            _train(recipe, run, checkpoint, ask)
    finally:
        if is_main():
            run.unlock()


@contextmanager
def _outcome_told(run: Run) -> Generator[None]:
    """Write into the manifest how a run ended that did not end well."""
    try:
        yield
    except StoppedElsewhere:
        raise
    except (InterruptedRun, KeyboardInterrupt):
        if is_main():
            run.update_manifest(status="interrupted")
        raise
    except BaseException as error:
        if processes.lost_another(error):
            raise _without_another(run) from error
        run.update_manifest(status="failed", error=f"{type(error).__name__}: {error}")
        raise


def _without_another(run: Run) -> PoiseError:
    """Say that training cannot go on without a process that ended, unless it has said why, which the manifest shows."""
    message = "another process of this run ended without a word, and training cannot go on without it"
    if run.manifest.get("status") != "running":
        return StoppedElsewhere(message, ResourceError.exit_code)
    run.update_manifest(status="failed", error=message)
    return ResourceError(
        f"{message}\n    why:    it was killed: by the system for want of memory, or with its machine\n"
        "    to do:  see what the launcher says of it; --resume goes on from the newest checkpoint"
    )


def _train(recipe: Recipe, run: Run, checkpoint: Path | None, ask: Ask | None) -> None:
    started = time.monotonic()
    main_alone(lambda: _begin(recipe, run))
    prepared = together(lambda: prepare(recipe))
    counts = main_alone(lambda: run.write_ledger(prepared.loaded.rows_in, prepared.drops))
    facts = prepared.rendered.facts()
    _refuse_different_rows(facts["sha256"])
    if checkpoint is not None:
        main_alone(lambda: _refuse_other_rows(run, facts["sha256"]))
    progress.say(
        f"data: {counts['in']:,} rows in, {counts['used']:,} used, {sum(counts['dropped'].values()):,} dropped · "
        f"{facts['tokens']:,} tokens, {facts['trained_tokens'] / facts['tokens']:.0%} trained on"
    )
    assembled = together(lambda: assemble(recipe, prepared.tokenizer, prepared.rendered))
    scorer, hardware, policy_sha256 = assembled.scorer, assembled.hardware, assembled.policy_sha256
    model = scorer.model
    notes = [*prepared.tokenizer.notes, *prepared.rendered.notes, *assembled.notes, assembled.checked]
    total, trainable = parameter_counts(model)
    progress.say(
        f"model: {recipe.model.model_name_or_path} · {total:,} parameters, {trainable:,} trained "
        f"({recipe.model.tuning}) · {hardware}"
    )
    for note in notes:
        progress.say(f"note: {note}")
    budget = assembled.micro_batch_tokens
    reference = make_reference(
        recipe,
        [*prepared.rendered.train, *prepared.rendered.held_out],
        scorer,
        hardware,
        policy_sha256,
        budget,
        store=reference_store(recipe),
    )
    described = {
        "model": {
            "name": recipe.model.model_name_or_path,
            "parameters": total,
            "trainable_parameters": trainable,
            "dtype": str(hardware.dtype).removeprefix("torch."),
            "autocast": hardware.autocast,
            "tuning": recipe.model.tuning,
            "weights_sha256": policy_sha256,
            "attention": scorer.config._attn_implementation if scorer.way == "alone" else scorer.kernel,
            "prefix_sharing": scorer.way == "shared",
            "chat_template": prepared.tokenizer.template_name,
            "stop_tokens": prepared.tokenizer.tokenizer.convert_ids_to_tokens(list(prepared.tokenizer.stop_ids)),
        },
        "data": {**facts, "sources": dict(prepared.loaded.rows_in), "curations": prepared.loaded.curations},
        "reference": _reference_facts(reference),
        "processes": processes.count(),
        "optimizer_steps": prepared.optimizer_steps(recipe, processes.count()),
        "notes": [
            *run.manifest.get("notes", []),
            *notes,
            *(reference.notes if isinstance(reference, Reference) else ()),
        ],
    }
    main_alone(lambda: run.update_manifest(**described))
    asking = time.monotonic()
    if ask and checkpoint is None:
        main_alone(lambda: ask("before", model, prepared.renderer, prepared.loaded))
    asked = time.monotonic() - asking
    trainer = _trainer(recipe, run, prepared, scorer, reference, hardware, assembled.base_sha256, budget)
    forecast_run(trainer, recipe, facts["sha256"], began=started, asking=asked, resumed=checkpoint is not None)
    _loop(trainer, run, checkpoint)
    main_alone(lambda: save_model(model, prepared.tokenizer, run.path / "model", assembled.base_sha256))
    if ask:
        main_alone(lambda: ask("after", model, prepared.renderer, prepared.loaded))
    seconds = round(time.monotonic() - started, 3)
    main_alone(lambda: run.update_manifest(status="done", finished=now(), seconds=seconds))


def _begin(recipe: Recipe, run: Run) -> None:
    before = run.manifest
    run.update_manifest(
        poise=__version__,
        verb=recipe.verb,
        objective=recipe.objective.model_dump(),
        created=before.get("created", now()),
        argv=sys.argv[1:],
        command="poise " + " ".join(sys.argv[1:]),
        status="running",
        machine={
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
            "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory_bytes": psutil.virtual_memory().total,
        },
        versions=_versions(),
        notes=[str(note) for note in recipe.notes],
    )
    write_whole(run.path / "recipe.resolved.yaml", recipe.resolved_yaml())


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _starting_point(run: Run, resume: bool, overwrite: bool) -> Path | None:
    """Return the checkpoint to go on from, or None to start afresh; an old run is never mixed with a new one."""
    checkpoint = newest_checkpoint(run.path / "checkpoints")
    if resume:
        if checkpoint is None:
            raise RunError(f"--resume: {run.path} holds no complete checkpoint; start without --resume")
        progress.say(f"resuming from {checkpoint}")
        return checkpoint
    if run.is_begun and not overwrite:
        status = run.manifest.get("status")
        go_on = "go on with --resume, or " if checkpoint and status != "done" else ""
        raise RunError(
            f"{run.path} already holds a run (status: {status})\n"
            f"    to do:  {go_on}replace it with --overwrite, or name another output_dir"
        )
    if run.manifest:
        run.clear()
    return None


def _refuse_other_rows(run: Run, sha256: str) -> None:
    """Refuse to go on with other rows than the checkpoint was trained on: its place in them would mean nothing."""
    before = run.manifest.get("data", {}).get("sha256", sha256)
    if before != sha256:
        raise RunError(
            f"--resume: the rows have changed since {run.path} was started ({before[:12]}… then, {sha256[:12]}… now)\n"
            "    why:    some rows would be trained on twice and others never\n"
            "    to do:  restore data, template and max_length, or start anew with --overwrite"
        )


def _refuse_different_rows(sha256: str) -> None:
    """Refuse to train where the processes have rendered different rows: they would disagree on what a step is."""
    found = processes.everyone(sha256)
    if len(set(found)) > 1:
        told = ", ".join(f"{each[:12]}… in process {rank}" for rank, each in enumerate(found))
        raise agreed(
            DataError(
                f"the processes of this run read different rows ({told})\n"
                "    why:    each takes its share of a step, which must be the same step\n"
                "    to do:  let all of them read the same files, with the same versions of poise and transformers"
            )
        )


def reference_store(recipe: Recipe) -> Path | None:
    """Where a recipe keeps reference log-probabilities."""
    if isinstance(recipe.poise.reference_cache, str):
        return Path(recipe.poise.reference_cache)
    return cache_folder() if recipe.poise.reference_cache else None


def make_reference(
    recipe: Recipe,
    rows: Sequence[Row],
    scorer: Scorer,
    hardware: Hardware,
    sha256: str,
    tokens: int,
    *,
    store: Path | None,
) -> Reference | FollowingReference | None:
    """Make the reference that a recipe's objective compares with, for these rows; None where it needs none."""
    if not recipe.objective.needs_reference:
        return None
    moves = recipe.objective.moving_reference
    if moves is not None:
        return FollowingReference(scorer, moves)
    other = recipe.model.ref_model_name_or_path
    with hardware.computing():
        if other is None:
            reference = reference_for(rows, scorer, sha256, tokens=tokens, store=store)
        else:
            frozen = load_model(recipe.model, hardware, name=other)
            reference = reference_for(
                rows, _scorer_like(scorer, frozen.model), frozen.sha256, tokens=tokens, store=store
            )
    if other is None:
        check_reference(scorer, rows, reference, hardware)
    return reference


def _scorer_like(scorer: Scorer, model: Any) -> Scorer:
    """Score another model the way the policy is scored."""
    other = Scorer(model, way=scorer.way)
    other.kernel, other.own_logits = scorer.kernel, scorer.own_logits
    return other


def _reference_facts(reference: Reference | FollowingReference | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    if isinstance(reference, FollowingReference):
        return {"follows": dataclasses.asdict(reference.moves)}
    return {
        "sha256": reference.weights_sha256,
        "cached": reference.cached,
        "computed": reference.computed,
        "seconds": round(reference.seconds, 3),
    }


def _trainer(
    recipe: Recipe,
    run: Run,
    prepared: Prepared,
    scorer: Scorer,
    reference: Reference | FollowingReference | None,
    hardware: Hardware,
    base_sha256: str,
    budget: int,
) -> PoiseTrainer:
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


def training_arguments(recipe: Recipe, run: Run, hardware: Hardware) -> TrainingArguments:
    """Build transformers' arguments from the recipe, with what poise owns set by poise."""
    chosen = {key: value for key, value in recipe.training.items() if value is not None}
    chosen |= {
        "output_dir": str(run.path / "checkpoints"),
        "per_device_train_batch_size": rows_per_step(recipe),
        "gradient_accumulation_steps": 1,
        "activation_checkpointing": False,
        "activation_checkpointing_kwargs": None,
        "bf16": hardware.autocast,
        "optim": choose_optimizer(recipe.training["optim"], hardware.device).name,
        "use_cpu": hardware.device.type == "cpu",
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "neftune_noise_alpha": None,  # the Scorer adds it, by each sequence's own length
        "label_names": [],
    }
    if processes.count() > 1:  # every pass reaches every trained weight; to look for others costs time in each
        chosen.setdefault("ddp_find_unused_parameters", False)
    arguments = TrainingArguments(**chosen)
    if arguments.n_gpu > 1:  # transformers would copy the model to all of them in every step
        progress.say(
            f"note: one of {arguments.n_gpu} GPUs is used; for all of them, start "
            f"torchrun --nproc-per-node {arguments.n_gpu} -m poise {recipe.verb} …"
        )
        arguments._n_gpu = 1  # pyright: ignore[reportPrivateUsage]
    return arguments


def _loop(trainer: PoiseTrainer, run: Run, checkpoint: Path | None) -> None:
    with stop_signals(trainer), _display_closed(trainer):
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


class StopGently(TrainerCallback):
    """Save and stop at the next step boundary once a signal came, in whichever process."""

    signal: str | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Ask the Trainer to save and stop."""
        number = processes.highest(signal.Signals[self.signal] if self.signal else 0, args.device)
        if number:
            self.signal = signal.Signals(number).name
            control.should_save = control.should_training_stop = True
        return control


class DrawApart(TrainerCallback):
    """Let dropout draw differently in each process; before training, all drew the same new weights."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seed by the recipe and the process's number; a resumed run goes on from its checkpoint's state."""
        set_seed(args.seed + processes.rank())


@contextmanager
def stop_signals(trainer: PoiseTrainer) -> Generator[None]:
    """Turn the first SIGINT or SIGTERM into a gentle stop; a second one ends the process at once."""
    gently = next(callback for callback in trainer.callback_handler.callbacks if isinstance(callback, StopGently))

    def handle(number: int, frame: FrameType | None) -> None:
        if gently.signal is not None:
            raise KeyboardInterrupt
        gently.signal = signal.Signals(number).name
        progress.say(f"{gently.signal}: finishing this step, then saving; once more to stop at once without saving")

    try:
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display_closed(trainer: PoiseTrainer) -> Generator[None]:
    """Take the bar off the terminal when training ends in an error."""
    try:
        yield
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, ShowProgress):
                callback.close()


class ShowProgress(TrainerCallback):
    """Feed the progress display from the Trainer's log lines."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self._facts: dict[str, object] = {}
        self._context: Any = None
        self._stage: progress.Stage | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the display."""
        if state.is_world_process_zero:
            self._context = progress.stage(self.verb, state.max_steps)
            self._stage = self._context.__enter__()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Keep the newest numbers."""
        logs = logs or {}
        self._facts |= {shown: float(logs[name]) for name, shown in SHOWN.items() if name in logs}
        if self._stage and "loss" in logs:
            self._stage.advance(state.global_step, **self._facts)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Move the bar; the last step is always logged, since the verdict quotes it."""
        if self._stage and progress.is_interactive():
            self._stage.advance(state.global_step, **self._facts)
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the display."""
        self.close()

    def close(self) -> None:
        """Take the bar off, if there is one."""
        if self._context:
            self._context.__exit__(None, None, None)
            self._context = self._stage = None


def row_at(prepared: Prepared, number: int) -> Row:
    """Return a rendered row by its place in training order, from 0."""
    rows: Sequence[Row] = prepared.rendered.train
    if not 0 <= number < len(rows):
        raise RunError(f"--row {number}: this recipe has rows 0 to {len(rows) - 1}")
    return rows[number]
