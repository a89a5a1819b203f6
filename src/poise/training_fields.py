"""The fields of transformers' TrainingArguments (5.23) as data: reading a recipe must not import transformers.

A test compares names and types with the installed class. Ranges are added where a value outside cannot train.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field


def _whole_or_share(steps: float) -> float:
    """Keep a share of all steps (below 1) as it is; anything else counts steps and must be whole."""
    if steps < 1:
        return steps
    if steps != int(steps):
        raise ValueError(f"expected a whole number of steps, or a share of all steps below 1, got {steps}")
    return int(steps)


def _steps_or_endless(steps: int) -> int:
    """-1 means that epochs decide."""
    if steps == -1 or steps >= 1:
        return steps
    raise ValueError(f"expected a number of steps of at least 1, or -1 to let num_train_epochs decide, got {steps}")


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
AtLeastOne = Annotated[int, Field(ge=1)]
AtLeastZero = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
StepsOrShare = Annotated[float, Field(gt=0), AfterValidator(_whole_or_share)]
Warmup = Annotated[float, Field(ge=0), AfterValidator(_whole_or_share)]
MaxSteps = Annotated[int, AfterValidator(_steps_or_endless)]
Interval = Literal["no", "steps", "epoch"]
Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
    "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "greedy",
]  # fmt: skip
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adafactor", "adamw_anyprecision",
    "adamw_torch_4bit", "adamw_torch_8bit", "ademamix", "sgd", "adagrad", "adamw_bnb_8bit", "adamw_8bit",
    "ademamix_8bit", "lion_8bit", "lion_32bit", "paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit",
    "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit", "galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise",
    "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "lomo", "adalomo", "grokadamw",
    "schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd", "apollo_adamw", "apollo_adamw_layerwise",
    "stable_adamw",
]  # fmt: skip
LogLevel = Literal["detail", "debug", "info", "warning", "error", "critical", "passive"]


def _optional(kind: Any) -> Any:
    return kind | None


TRAINING_FIELDS: dict[str, Any] = {
    "output_dir": str | None,
    # length and batch
    "per_device_train_batch_size": AtLeastOne,
    "num_train_epochs": Positive,
    "max_steps": MaxSteps,
    "gradient_accumulation_steps": AtLeastOne,
    "average_tokens_across_devices": bool,
    "auto_find_batch_size": bool,
    # learning rate and optimizer
    "learning_rate": Positive,
    "lr_scheduler_type": Schedule,
    "lr_scheduler_kwargs": dict[str, Any] | str | None,
    "warmup_steps": Warmup,
    "optim": Optimizer,
    "optim_args": str | None,
    "weight_decay": NotNegative,
    "adam_beta1": Share,
    "adam_beta2": Share,
    "adam_epsilon": Positive,
    "optim_target_modules": list[str] | str | None,
    "max_grad_norm": NotNegative,
    "label_smoothing_factor": Share,
    "neftune_noise_alpha": _optional(NotNegative),
    # precision, memory, speed
    "bf16": bool,
    "fp16": bool,
    "bf16_full_eval": bool,
    "fp16_full_eval": bool,
    "tf32": bool | None,
    "activation_checkpointing": bool | None,
    "activation_checkpointing_kwargs": dict[str, Any] | str | None,
    "gradient_checkpointing": bool | None,
    "gradient_checkpointing_kwargs": dict[str, Any] | str | None,
    "torch_compile": bool,
    "torch_compile_backend": str | None,
    "torch_compile_mode": str | None,
    "use_liger_kernel": bool,
    "liger_kernel_config": dict[str, bool] | None,
    "use_cache": bool,
    "torch_empty_cache_steps": _optional(AtLeastOne),
    # logging
    "logging_strategy": Interval,
    "logging_steps": StepsOrShare,
    "logging_first_step": bool,
    "log_on_each_node": bool,
    "logging_nan_inf_filter": bool,
    "include_num_input_tokens_seen": bool | Literal["all", "non_padding", "no"],
    "log_level": LogLevel,
    "log_level_replica": LogLevel,
    "disable_tqdm": bool | None,
    "report_to": list[str] | str | None,
    "run_name": str | None,
    "project": str,
    "trackio_space_id": str | None,
    "trackio_bucket_id": str | None,
    "trackio_static_space_id": Literal[False] | str | None,
    # evaluation
    "eval_strategy": Interval,
    "eval_steps": _optional(StepsOrShare),
    "eval_delay": NotNegative,
    "per_device_eval_batch_size": AtLeastOne,
    "prediction_loss_only": bool,
    "eval_on_start": bool,
    "eval_do_concat_batches": bool,
    "eval_use_gather_object": bool,
    "eval_accumulation_steps": _optional(AtLeastOne),
    "include_for_metrics": list[str],
    "batch_eval_metrics": bool,
    # saving
    "save_only_model": bool,
    "save_strategy": Literal["no", "steps", "epoch", "best"],
    "save_steps": StepsOrShare,
    "save_on_each_node": bool,
    "save_total_limit": _optional(AtLeastOne),
    "enable_jit_checkpoint": bool,
    "load_best_model_at_end": bool,
    "metric_for_best_model": str | None,
    "greater_is_better": bool | None,
    # the Hub
    "push_to_hub": bool,
    "hub_token": str | None,
    "hub_private_repo": bool | None,
    "hub_model_id": str | None,
    "hub_strategy": Literal["end", "every_save", "checkpoint", "all_checkpoints"],
    "hub_always_push": bool,
    "hub_revision": str | None,
    # reproducibility and resuming
    "ignore_data_skip": bool,
    "restore_callback_states_from_checkpoint": bool,
    "full_determinism": bool,
    "seed": Seed,
    "data_seed": _optional(Seed),
    "resume_from_checkpoint": str | None,
    # devices and processes
    "use_cpu": bool,
    "accelerator_config": dict[str, Any] | str | None,
    "parallelism_config": None,
    "ddp_find_unused_parameters": bool | None,
    "ddp_bucket_cap_mb": _optional(AtLeastOne),
    "ddp_broadcast_buffers": bool | None,
    "ddp_static_graph": bool | None,
    "ddp_backend": str | None,
    "ddp_timeout": AtLeastOne,
    "fsdp": bool | str | None,
    "fsdp_config": dict[str, Any] | str | None,
    "deepspeed": dict[str, Any] | str | None,
    "local_rank": int,
    # data loading
    "dataloader_drop_last": bool,
    "dataloader_num_workers": AtLeastZero,
    "dataloader_pin_memory": bool,
    "dataloader_persistent_workers": bool,
    "dataloader_prefetch_factor": _optional(AtLeastOne),
    "dataloader_multiprocessing_context": str | None,
    "dataloader_in_order": bool,
    "remove_unused_columns": bool,
    "label_names": list[str] | None,
    "train_sampling_strategy": Literal["random", "sequential", "group_by_length", "batch_rebalance"],
    "length_column_name": str,
    # what to run, and looking inside
    "debug": list[str] | str,
    "skip_memory_metrics": bool,
    "do_train": bool,
    "do_eval": bool,
    "do_predict": bool,
}
"""Name and type of every field, in the order of a recipe's story."""
