"""The one Trainer: transformers' loop, schedules, optimizers and trackers around poise's batches and objectives.

The Trainer sees an optimizer step as one batch: per-device batch x accumulation x processes rows. Every process gets
all of them, takes its share, and cuts it into micro-batches by a token budget; losses are divided by the step's item
count. So 8x1, 4x2, 1x8 and two processes are the same computation, no row is repeated or left out to make processes
even, and memory does not depend on which rows meet.
"""

import contextlib
import copy
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from poise.batch.batch import Batch, make_batch
from poise.batch.logps import Logps, side_by_side
from poise.batch.objective import Objective
from poise.batch.pack import pack
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.errors import DivergenceError
from poise.run import Run
from poise.train import processes, whole_step
from poise.train.guard import Guard
from poise.train.means import Means
from poise.train.memory import fitting, room_for
from poise.train.moving import FollowingReference
from poise.train.peak_memory import peak_memory_bytes
from poise.train.processes import NOTHING, agreed
from poise.train.reference import Reference
from poise.train.resumable import ResumableTrainer
from poise.train.rollback import left_out, stand_in
from poise.train.sharded import evened
from poise.train.tally import Tally
from poise.train.whole_step import items, random_state, set_random_state


class Rows(Dataset[Row]):
    """Rendered rows as a torch dataset; others stand in for those that are left out."""

    def __init__(self, rows: Sequence[Row], skipped: Collection[str] = ()) -> None:
        self.rows, self.skipped = rows, skipped

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return stand_in(self.rows, index, self.skipped)


class PoiseTrainer(ResumableTrainer):
    """transformers.Trainer over Batches: overrides the step, the evaluation, the log line and the counters."""

    def __init__(
        self,
        scorer: Scorer,
        objective: Objective,
        arguments: TrainingArguments,
        run: Run,
        rows: Sequence[Row],
        *,
        eval_rows: Sequence[Row] = (),
        reference: Reference | FollowingReference | None = None,
        micro_batch_tokens: int,
        save: Callable[[Path, dict[str, Any] | None], None],
        callbacks: list[TrainerCallback],
        guard: Guard | None = None,
        identity: Mapping[str, Any] | None = None,
        changed: Collection[str] = (),
    ) -> None:
        super().__init__(
            identity=identity or {},
            changed=changed,
            model=scorer,
            args=arguments,
            data_collator=lambda rows: {"rows": rows},
            train_dataset=Rows(rows, left_out(run)),
            eval_dataset=Rows(eval_rows) if eval_rows else None,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.scorer = scorer
        self.objective, self.reference, self.run = objective, reference, run
        self.guard = guard or Guard(run)
        self.micro_batch_tokens = micro_batch_tokens
        scorer.with_collision = objective.needs_collision
        self._save_model = save
        self._tally = Tally()
        self.step_rows: Sequence[Row] = ()
        """Of the step that is running, or ran last."""
        self.tokens_seen = 0

    def get_train_dataloader(self) -> DataLoader[Row]:
        """Give every process the rows of the whole step; `training_step` takes its share.

        accelerate's shards would repeat rows until all processes have equally many.
        """
        if processes.count() == 1:
            return super().get_train_dataloader()
        options = {
            name: getattr(self.args, f"dataloader_{name}")
            for name in ("num_workers", "persistent_workers", "prefetch_factor", "multiprocessing_context",
                         "drop_last", "in_order", "pin_memory")
        }  # fmt: skip
        loader: DataLoader[Row] = DataLoader(
            cast("Rows", self.train_dataset),
            batch_size=self.args.train_batch_size * processes.count(),
            sampler=self._get_train_sampler(),
            collate_fn=self.data_collator,
            **options,
        )
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        return prepare_data_loader(loader, num_processes=1, process_index=0, use_seedable_sampler=True, data_seed=seed)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Run one optimizer step's rows forward and backward; returns the loss per item, detached."""
        started = time.monotonic()
        model.train()
        rows: list[Row] = inputs["rows"]
        self.step_rows = rows
        scale = processes.count() / items(rows, self.objective)  # the exchange of gradients takes their mean
        own = self._own(rows)
        self._router_scale = 0.0 if own == [NOTHING] else processes.count() / len(rows)
        tally, random_before = copy.deepcopy(self._tally), random_state()

        def begin_again(tokens: int, said: str) -> None:
            model.zero_grad()
            self._tally = copy.deepcopy(tally)
            set_random_state(random_before)
            self._go_on_with(tokens, said)

        total = fitting(lambda tokens: self._step(model, own, scale, tokens), self.micro_batch_tokens, begin_again)
        computed = sum(map(self.scorer.tokens, rows))
        self._tally.tokens += computed
        self.tokens_seen += computed
        self._tally.seconds += time.monotonic() - started
        self.guard.loss(self.state.global_step + 1, float(processes.summed(total)) / processes.count(), rows)
        return total

    def _own(self, rows: Sequence[Row]) -> list[Row]:
        """Take this process's share of rows that all processes have."""
        share = processes.shares(rows, self.scorer.tokens, processes.count())[processes.rank()]
        return share or [NOTHING]

    def _step(self, model: Any, rows: Sequence[Row], scale: float, tokens: int) -> Tensor:
        groups: Sequence[Sequence[Row]] = pack(rows, tokens, self.scorer.tokens)
        if self._is_sharded:
            groups = evened(groups, self.args.device)
        apart = len(groups) > 1 or processes.count() > 1
        step = self._whole_step if self.objective.whole_step and apart else self._group_by_group
        return step(model, groups, scale)

    def _go_on_with(self, tokens: int, said: str) -> None:
        """Keep a smaller token budget for the rest of the run, and write that into the manifest."""
        self.micro_batch_tokens = tokens
        if self.is_world_process_zero():
            self.run.update_manifest(notes=[*self.run.manifest.get("notes", []), said])

    def _room_for(self, rows: Sequence[Row], *, exchanges: bool = False) -> contextlib.AbstractContextManager[None]:
        """Watch a pass over rows; it cannot be repeated where the processes `exchange` something in it or before."""
        size = sum(map(self.scorer.tokens, rows))
        return room_for(rows, size, can_retry=processes.count() == 1 or not exchanges)

    def _group_by_group(self, model: Any, groups: Sequence[Sequence[Row]], scale: float) -> Tensor:
        total = torch.zeros((), device=self.args.device)
        for index, group in enumerate(groups):
            last = index == len(groups) - 1
            with self._room_for(group, exchanges=last or self._is_sharded), self._syncing(model, last=last):
                losses, metrics, router = self._losses(model, group)
                loss = losses.sum() * scale + self._router_loss(None if group[0] is NOTHING else router)
                self.accelerator.backward(loss)
            total += loss.detach()
            self._tally.metrics.add(metrics)
        return total

    def _whole_step(self, model: Any, groups: Sequence[Sequence[Row]], scale: float) -> Tensor:
        def forward(batch: Batch) -> Logps:
            with self.compute_loss_context_manager():
                return model(batch)

        batches = [make_batch(group).to(self.args.device) for group in groups]
        scored: list[whole_step.Scored] = []
        for batch in batches:
            with self._room_for(batch.rows, exchanges=self._is_sharded):
                scored += whole_step.score([batch], forward)
        losses, metrics, gradients = whole_step.token_gradients(
            self.objective, scored, self._reference_logps(batches), self._join, processes.rank()
        )
        total = losses.sum() * scale
        for index, (each, gradient) in enumerate(zip(scored, gradients, strict=True)):
            syncing = self._syncing(model, last=index == len(scored) - 1)
            with self._room_for(each.batch.rows, exchanges=True), syncing:
                surrogate, router = whole_step.surrogate(each, gradient * scale, forward)
                router_loss = self._router_loss(router)
                self.accelerator.backward(surrogate + router_loss)
            total += router_loss.detach()
        self._tally.metrics.add(metrics)
        return total

    def _syncing(self, model: Any, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Exchange gradients between processes in the last micro-batch of a step only."""
        return contextlib.nullcontext() if last else self.accelerator.no_sync(model)

    def _reference_logps(self, batches: Sequence[Batch]) -> Logps | None:
        if self.reference is None:
            return None
        with self.compute_loss_context_manager():
            return side_by_side([self.reference.logps(batch) for batch in batches])

    def _join(self, own: Logps) -> list[Logps]:
        """Collect the Logps of all processes, by rank."""
        if processes.count() == 1:
            return [own]
        return [logps.to(self.args.device) for logps in processes.everyone(own.to("cpu"))]

    def _losses(self, model: Any, rows: Sequence[Row]) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Return the objective's losses and metrics (items,), and the router losses (rows,) of a mixture of experts."""
        batch = make_batch(rows).to(self.args.device)
        with self.compute_loss_context_manager():
            policy = model(batch)
            return *self.objective(policy, self.reference.logps(batch) if self.reference else None), policy.router

    _router_scale = 0.0

    def _router_loss(self, router: Tensor | None) -> Tensor:
        """Return a micro-batch's share of the router loss, which is a mean over the rows of the step; 0 without one."""
        if router is None or not self._router_scale:
            return torch.zeros((), device=self.args.device)
        self._tally.router_loss += float(router.detach().sum())
        self._tally.rows += len(router)
        return router.sum() * self._router_scale

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the norm before clipping; asked for before every update, with and without clipping."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        value = float(norm) if norm is not None else 0.0
        self.guard.gradient_norm(self.state.global_step + 1, value, self.step_rows)
        if norm is not None and value == 0 and self.state.global_step == 0:
            message = (
                "step 1: no gradient reaches the trained weights, so nothing would be learned\n"
                "    why:    some operation of this model or its quantized weights has no backward pass here\n"
                "    to do:  train without quantization, or with other lora_target_modules"
            )
            raise agreed(DivergenceError(message))
        return norm

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return and log the objective's loss and metrics over the held-out rows, as means per item."""
        dataset: Any = eval_dataset if eval_dataset is not None else self.eval_dataset
        rows: Sequence[Row] = dataset.rows if dataset is not None else ()
        if not rows:
            return {}
        self.scorer.eval()
        own = self._own(rows)

        def score() -> Means:
            return fitting(lambda tokens: self._held_out_means(own, tokens), self.micro_batch_tokens, self._go_on_with)

        found = score() if self._is_sharded else processes.together(score)
        means = Means.joined(processes.everyone(found))
        self.scorer.train()
        result = {f"{metric_key_prefix}_{name}": mean for name, mean in means.read().items()}
        self.log(result)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, result)
        return result

    def _held_out_means(self, rows: Sequence[Row], tokens: int) -> Means:
        means = Means()
        for group, (losses, metrics) in self._held_out_losses(rows, tokens):
            self.guard.held_out(self.state.global_step, float(losses.sum()), group)
            means.add({"loss": losses, **metrics})
        return means

    def _held_out_losses(self, rows: Sequence[Row], tokens: int) -> Iterator[tuple[Sequence[Row], Any]]:
        """Yield rows with their (losses, metrics); all at once where the objective looks at all."""
        groups: Sequence[Sequence[Row]] = pack(rows, tokens, self.scorer.tokens)
        if self._is_sharded:
            groups = evened(groups, self.args.device)
        if not self.objective.whole_step:
            for group in groups:
                with self._room_for(group, exchanges=self._is_sharded):
                    found = self._losses(self.scorer, group)[:2]
                yield group, found
            return
        batches = [make_batch(group).to(self.args.device) for group in groups]
        with self.compute_loss_context_manager():
            scored: list[Logps] = []
            for batch in batches:
                with self._room_for(batch.rows, exchanges=self._is_sharded):
                    scored.append(self.scorer(batch))
            policy, reference = side_by_side(scored), self._reference_logps(batches)
        whole = side_by_side(self._join(policy))
        yield rows, self.objective(whole, side_by_side(self._join(reference)) if reference is not None else None)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what happened since the last line and write it to metrics.jsonl."""
        if "loss" in logs:
            tally, self._tally = Tally.joined(processes.everyone(self._tally)), Tally()
            logs |= tally.metrics.read()
            if tally.rows:
                logs["router_loss"] = tally.router_loss / tally.rows
            logs["tokens_seen"] = self.tokens_seen
            logs["tokens_per_second"] = tally.tokens / tally.seconds if tally.seconds else 0.0
            logs["seconds"] = tally.seconds
            logs["peak_memory_bytes"] = peak_memory_bytes(self.args.device)
        if "train_loss" in logs:
            logs["train_loss"] = self.train_loss
        super().log(logs, start_time)
        if "train_runtime" not in logs and self.is_world_process_zero():
            self.run.append_metrics({"step": self.state.global_step, **self.state.log_history[-1]})

    def save_weights(self, folder: Path, weights: dict[str, Any] | None = None) -> None:
        """Write the model as it can be loaded by itself; DivergenceError where its weights are no numbers."""
        held = self.policy().named_parameters() if weights is None else weights.items()
        trained = ((name, each) for name, each in held if each.requires_grad or weights is not None)
        self.guard.weights(self.state.global_step, trained, self.step_rows)
        self._save_model(folder, weights)

    def policy(self) -> Any:
        """Return the model that `save_weights` writes."""
        return self.scorer.model

    def counters(self) -> dict[str, Any]:
        """Return what is summed up over steps, for a checkpoint."""
        return {
            **super().counters(),
            "tokens_seen": self.tokens_seen,
            "tally": self._tally.state(),
            "micro_batch_tokens": self.micro_batch_tokens,
            "guard": self.guard.state(),
        }

    def take_up(self, counters: dict[str, Any]) -> None:
        """Go on summing up from a checkpoint's counters, with a token budget that fitted."""
        super().take_up(counters)
        self.tokens_seen = counters["tokens_seen"]
        self._tally = Tally.of_state(counters["tally"])
        self.guard.take_up(counters["guard"])
        if "tokens_per_micro_batch" not in self._changed:
            self.micro_batch_tokens = min(self.micro_batch_tokens, counters["micro_batch_tokens"])

    def save_more(self, folder: Path) -> None:
        """Write a reference that moves."""
        if isinstance(self.reference, FollowingReference):
            self.reference.save(folder)

    def load_more(self, folder: Path) -> None:
        """Read where a moving reference stood."""
        if isinstance(self.reference, FollowingReference):
            self.reference.load(folder)

    def is_doubtful(self) -> bool:
        """Whether the losses look as if this checkpoint were worse than older ones."""
        return self.guard.is_doubtful

    def skip(self, ids: Collection[str]) -> None:
        """Leave rows out from here on."""
        cast("Rows", self.train_dataset).skipped = ids

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted here: a shared token is computed once, which transformers' estimate does not know."""
        return 0
