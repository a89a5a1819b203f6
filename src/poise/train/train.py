"""Train: from a Recipe to a model in a Run folder, in the order that finds a mistake before it costs anything.

data -> rows -> model -> checks -> reference -> questions before -> training -> model saved -> questions after
"""

import platform
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from poise import __version__, progress
from poise.batch.render import Renderer
from poise.errors import DataError, InterruptedRun, PoiseError, ResourceError, RunError, StoppedElsewhere
from poise.preflight.finding import Finding
from poise.preflight.preflight import refuse
from poise.recipe import Recipe
from poise.run import Run, now, write_whole
from poise.sealed import replace_sealed, stage
from poise.secrets import hidden
from poise.signals import stopping_at_once
from poise.train import processes
from poise.train.assemble import Assembled, assemble
from poise.train.check import NotFiniteError
from poise.train.checkpoint import Checkpoint, written
from poise.train.data import Loaded
from poise.train.forecast import forecast_run
from poise.train.layout import layout_here, refuse_unsound
from poise.train.loop import decoder, make_trainer, run_loop
from poise.train.memory import told_plainly
from poise.train.model import Hardware, load_model, parameter_counts, quiet_libraries
from poise.train.preflight import examine, recorded, tell
from poise.train.prepare import Prepared, prepare
from poise.train.processes import agreed, is_main, main_alone, together
from poise.train.reference import Reference
from poise.train.reference_of import make_reference, reference_facts, reference_store
from poise.train.rendered_once import RenderedOnce, render_once
from poise.train.replay import keep_batch
from poise.train.sharded import layout_name
from poise.train.sizes import weight_bytes
from poise.train.space import check_space
from poise.train.starting_point import identity_of, settle, starting_point, tell_changes
from poise.train.trackers import tracking
from poise.train.trainer import PoiseTrainer

Ask = Callable[[str, Any, Renderer, Loaded], None]
"""Called with ("before" | "after", model, renderer, examples) to collect evidence."""


def train(recipe: Recipe, run: Run, *, resume: bool = False, overwrite: bool = False, ask: Ask | None = None) -> None:
    """Train as the recipe says; raises InterruptedRun after saving when stopped by Ctrl-C or SIGTERM.

    Of several processes the main one writes and tells; the others raise StoppedElsewhere where it fails.
    """
    refuse_unsound(recipe, layout_here())
    quiet_libraries()
    with stopping_at_once(), told_plainly():
        once = render_once(recipe) if processes.started() > 1 else None
    processes.meet(
        use_cpu=bool(recipe.training.get("use_cpu")) or not torch.cuda.is_available(),
        backend=recipe.training.get("ddp_backend"),
        timeout_seconds=float(recipe.training.get("ddp_timeout") or 1800),
    )
    if once is not None:
        main_alone(lambda: None)  # all have opened the rows
        once.forget()
    main_alone(run.lock)
    try:
        with stopping_at_once():
            checkpoint = main_alone(lambda: starting_point(run, resume, overwrite))
        with stopping_at_once(), _outcome_told(run), told_plainly():
            _train(recipe, run, checkpoint, ask, once)
    finally:
        if is_main():
            run.unlock()


@contextmanager
def _outcome_told(run: Run) -> Generator[None]:
    """Write into the manifest how a run ended that did not end well."""
    try:
        yield
    except (StoppedElsewhere, RunError):  # what the folder does not allow leaves it as it is
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


def _train(recipe: Recipe, run: Run, checkpoint: Checkpoint | None, ask: Ask | None, once: RenderedOnce | None) -> None:
    started = time.monotonic()
    if checkpoint is None:
        main_alone(lambda: _begin(recipe, run))
    prepared = once.prepared if once else prepare(recipe)
    facts = once.facts if once else prepared.rendered.facts()
    _refuse_different_rows(facts["sha256"])
    identity = identity_of(recipe, prepared, facts["sha256"])
    settle(checkpoint, identity)
    counts = main_alone(lambda: run.write_ledger(prepared.loaded.rows_in, prepared.drops))
    progress.say(
        f"data: {counts['in']:,} rows in, {counts['used']:,} used, {sum(counts['dropped'].values()):,} dropped · "
        f"{facts['tokens']:,} tokens, {facts['trained_tokens'] / facts['tokens']:.0%} trained on"
    )
    findings = main_alone(lambda: examine(recipe, prepared, processes=processes.count(), rows_sha256=facts["sha256"]))
    main_alone(lambda: _judge(run, findings, recipe.poise.ignore))
    assembled = together(lambda: _assemble(recipe, run, prepared))
    scorer, hardware, policy_sha256 = assembled.scorer, assembled.hardware, assembled.policy_sha256
    model = scorer.model
    identity |= {"device": hardware.device.type, "policy weights": policy_sha256}
    settle(checkpoint, identity)
    notes = [*prepared.tokenizer.notes, *prepared.rendered.notes, *assembled.notes, assembled.checked]
    notes = [note for note in notes if note not in {finding.what for finding in findings}]
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
    identity["reference weights"] = getattr(reference, "weights_sha256", None)
    changed = settle(checkpoint, identity)
    if checkpoint is not None:  # until here nothing was changed in a run that may not be gone on with
        main_alone(lambda: _begin(recipe, run))
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
            "chat_template_hash": prepared.tokenizer.template_hash,
            "stop_tokens": prepared.tokenizer.tokenizer.convert_ids_to_tokens(list(prepared.tokenizer.stop_ids)),
        },
        "data": {**facts, "sources": dict(prepared.loaded.rows_in), "curations": prepared.loaded.curations},
        "reference": reference_facts(reference),
        "processes": processes.count(),
        "optimizer_steps": prepared.optimizer_steps(recipe, processes.count()),
        "notes": [
            *run.manifest.get("notes", []),
            *(f"{each.code}: {each.what}" for each in findings if each.severity == "note"),
            *notes,
            *(reference.notes if isinstance(reference, Reference) else ()),
        ],
    }
    main_alone(lambda: run.update_manifest(**described))
    begun, steps = checkpoint.step if checkpoint else 0, prepared.optimizer_steps(recipe, processes.count())
    main_alone(lambda: check_space(recipe, model, run.path, steps=steps, begun=begun))
    asking = time.monotonic()
    if ask and checkpoint is None:
        main_alone(lambda: ask("before", model, prepared.renderer, prepared.loaded))
    asked = time.monotonic() - asking
    main_alone(lambda: tell_changes(run, changed))
    with tracking(recipe, run):
        trainer = make_trainer(
            recipe,
            run,
            prepared,
            scorer,
            reference,
            hardware,
            assembled.base_sha256,
            budget,
            identity,
            {each.key for each in changed},
        )
        forecast_run(trainer, recipe, facts["sha256"], began=started, asking=asked, resumed=checkpoint is not None)
        run_loop(trainer, run, checkpoint, lambda: _finish(trainer))
    if ask:
        main_alone(lambda: ask("after", _whole(trainer, recipe, hardware), prepared.renderer, prepared.loaded))
    seconds = round(time.monotonic() - started, 3)
    main_alone(lambda: run.update_manifest(status="done", finished=now(), seconds=seconds))


def _assemble(recipe: Recipe, run: Run, prepared: Prepared) -> Assembled:
    """Make the model ready, and keep the rows that it has no numbers for."""
    try:
        return assemble(recipe, prepared.tokenizer, prepared.rendered)
    except NotFiniteError as error:
        if is_main():
            keep_batch(run, 0, error.rows, {"what": "log-probabilities", "value": "nan"}, decoder(prepared))
        raise


def _judge(run: Run, findings: Sequence[Finding], ignored: Sequence[str]) -> None:
    """Tell what the preflight found and keep it with the run, then stop where an error is among it."""
    tell(findings, ignored)
    run.update_manifest(**recorded(findings, ignored))
    refuse(findings, ignored)


def _finish(trainer: PoiseTrainer) -> None:
    weights = trainer.gathered()
    main_alone(lambda: _save_result(trainer, weights))


def _whole(trainer: PoiseTrainer, recipe: Recipe, hardware: Hardware) -> Any:
    """Return the trained model; where no process has all its weights, the one that was saved."""
    if not layout_here().divides_weights:
        return trainer.scorer.model
    saved = {"model_name_or_path": str(trainer.run.path / "model"), "model_revision": "main"}
    return load_model(recipe.model.model_copy(update=saved), hardware).model


def _save_result(trainer: PoiseTrainer, weights: dict[str, Any] | None) -> None:
    """Write the trained model, whole or not at all, and what the training came to."""
    folder, model = trainer.run.path, trainer.scorer.model
    with written("the model", folder, weight_bytes(model)):
        staging = stage(folder)
        trainer.save_weights(staging, weights)
        replace_sealed(staging, folder / "model", {"step": trainer.state.global_step})
    trainer.run.update_manifest(
        train_loss=trainer.train_loss, tokens_seen=trainer.tokens_seen, layout=layout_name(trainer.scorer)
    )


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
    write_whole(run.path / "recipe.resolved.yaml", hidden(recipe.resolved_yaml()))


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


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
