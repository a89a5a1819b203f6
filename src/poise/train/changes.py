"""What differs from the run that a checkpoint belongs to: each thing is applied or refused, and none is passed over.

Applied is what may change from one step to the next without making the steps before it wrong, and what shows in a hash
when it changes anything: other paths to the same rows and the same weights.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poise.errors import RunError

SCHEDULE = frozenset(
    ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_steps", "num_train_epochs")
)
"""The learning rate of every step to come is that of the new recipe at that step."""
UPDATE = frozenset(("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"))
TOLD = frozenset(
    ("logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node", "log_level", "log_level_replica",
     "disable_tqdm", "report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id",
     "trackio_static_space_id", "debug", "skip_memory_metrics", "include_num_input_tokens_seen", "eval_strategy",
     "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size", "output_dir",
     "wandb_project", "wandb_entity", "wandb_run_group", "ignore", "on_divergence")
)  # fmt: skip
SAVED = frozenset(
    ("save_strategy", "save_steps", "save_total_limit", "save_only_model", "save_on_each_node",
     "load_best_model_at_end", "enable_jit_checkpoint", "restore_callback_states_from_checkpoint")
)  # fmt: skip
COMPUTED = frozenset(
    ("tokens_per_micro_batch", "prefix_sharing", "attn_implementation", "activation_checkpointing",
     "activation_checkpointing_kwargs", "torch_empty_cache_steps", "reference_cache", "dataloader_num_workers",
     "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor", "ddp_timeout",
     "ddp_backend", "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "poise", "python", "torch", "transformers",
     "peft", "device")
)  # fmt: skip
"""The same numbers by another way, up to rounding."""
APPLIED = SCHEDULE | UPDATE | TOLD | SAVED | COMPUTED
BY_ROWS = frozenset(
    ("dataset_name", "dataset_config", "dataset_revision", "dataset_train_split", "dataset_test_split",
     "dataset_mixer", "dataset_splits", "dataset_configs", "dataset_mixture", "text_column", "on_bad_row", "max_length",
     "max_prompt_length", "overlong", "packing", "max_train_samples", "tokenizer_name_or_path", "chat_template",
     "eos_token", "template")
)  # fmt: skip
"""What they change is in the hash of the rows, or they change nothing."""
BY_WEIGHTS = frozenset(("model_name_or_path", "model_revision", "ref_model_name_or_path"))
"""What they change is in the hashes of the policy at the start and of the reference."""
BATCH = frozenset(("per_device_train_batch_size", "gradient_accumulation_steps"))
"""What they change is the number of rows of a step, which stands by itself."""
LATER = frozenset(("device", "policy weights", "reference weights"))
"""What is not known before the model is loaded; until then it is left out."""
LONGEST = 36


@dataclass(frozen=True)
class Change:
    """One thing that differs."""

    key: str
    then: Any
    now: Any
    is_applied: bool


def changes(then: Mapping[str, Any], now: Mapping[str, Any], step: int) -> list[Change]:
    """List what differs between two identities; what one of them does not know yet is left out."""
    then, now = _plain(then), _plain(now)
    different = {
        key
        for key in then.keys() | now.keys()
        if then.get(key) != now.get(key) and not (key in LATER and (key not in then or key not in now))
    }
    applied = {key for key in different if _is_applied(key, different, then, now, step)}
    return [
        Change(key, then.get(key), now.get(key), key in applied)
        for key in sorted(different, key=lambda key: (key in applied, key))
    ]


def refuse_changes(found: Sequence[Change]) -> None:
    """Raise RunError, with everything that differs, where any of it is refused."""
    refused = [change.key for change in found if not change.is_applied]
    if refused:
        raise RunError(
            f"--resume: this is not the run that was started: {', '.join(refused)}\n{table(found)}\n"
            "    why:    the steps so far belong to what was; going on would be neither the old run nor a new one\n"
            "    to do:  restore what is refused, or start anew with --overwrite or another output_dir"
        )


def table(found: Sequence[Change]) -> str:
    """Lay the changes out: what, then, now, and what becomes of it."""
    rows = [("", "then", "now", "")] + [
        (change.key, _shown(change.then), _shown(change.now), "applied" if change.is_applied else "refused")
        for change in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "    " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    )


def _is_applied(key: str, different: set[str], then: Mapping[str, Any], now: Mapping[str, Any], step: int) -> bool:
    if key in ("max_steps", "num_train_epochs") and now.get("optimizer steps", step) < step:
        return False
    if key == "optimizer steps":
        return now[key] >= step and bool(different & SCHEDULE)
    if key in SCHEDULE and _has_own_memory(then, now):
        return key in ("max_steps", "num_train_epochs")
    if key in BY_ROWS:
        return "rows" not in different
    if key in BY_WEIGHTS:
        return not different & {"policy weights", "reference weights"}
    if key in BATCH:
        return "rows of a step" not in different
    return key in APPLIED


def _has_own_memory(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a schedule follows from what it has seen, so that its settings cannot be exchanged on the way."""
    return bool({then.get("lr_scheduler_type"), now.get("lr_scheduler_type")} & {"reduce_lr_on_plateau", "greedy"})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(values), default=str))


def _shown(value: Any) -> str:
    text = "not set" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
