"""What other tools call things, as data: old spellings that act here, keys that need not act, and names to translate.

The handbook's and TRL's own files run unmodified, so their spellings are accepted. Axolotl's, LLaMA-Factory's and
bagel's names often come with another meaning attached, so they are answered with the name to write instead.
"""

from typing import Any

RENAMED: dict[str, str] = {
    "max_seq_length": "max_length",
    "warmup_ratio": "warmup_steps",
    "evaluation_strategy": "eval_strategy",
    "datasets_mixer": "dataset_mixer",
    "dtype": "torch_dtype",
    "use_flash_attention_2": "attn_implementation",
    "ref_model": "ref_model_name_or_path",
    "ref_model_name": "ref_model_name_or_path",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
    "dataset_text_field": "text_column",
    "chat_template_path": "chat_template",
    "preprocessing_num_workers": "dataset_num_proc",
    "hub_model_revision": "hub_revision",
    "push_to_hub_model_id": "hub_model_id",
    "no_cuda": "use_cpu",
    "include_tokens_per_second": "include_num_input_tokens_seen",
}
"""Spelling in the handbook, TRL or an older transformers -> the key it means here."""

REWORDED: dict[str, dict[Any, Any]] = {
    "use_flash_attention_2": {True: "flash_attention_2", False: None},
    "include_tokens_per_second": {True: "all", False: "no"},
}
"""For a renamed key, what its old values mean."""

LOSS_TYPES: dict[str, str] = {"sigmoid": "dpo", "sft": "nll"}
"""TRL's `loss_type` -> the objective of that name, where the two names differ."""

LOSS_TYPES_OF: dict[str, dict[str, str]] = {
    "cpt": {"nll": "cpt", "chunked_nll": "cpt"},
    "sft": {"sft": "sft", "nll": "sft", "chunked_nll": "sft"},
    "cpo": {"sigmoid": "cpo", "hinge": "", "ipo": ""},
    "simpo": {"sigmoid": "simpo", "hinge": ""},
}
"""The same under one command, where its recipes mean something else; empty where nothing here is meant."""

LOSS_FAMILIES: dict[str, str] = {"dpo": "sigmoid", "cpo": "sigmoid", "orpo": "orpo", "kto": "kto"}
"""Commands whose recipes may name another loss on the same rows, with the `loss_type` of their own."""

LOSS_NOTES: dict[tuple[str, str], str] = {
    ("cpo", "simpo"): "the objective is simpo, without TRL's likelihood term unless cpo_alpha asks for it",
}
"""(command, objective that `loss_type` names there) -> what to say, where more than the name differs."""

_RENDERED_ONCE = "poise renders text to tokens in one pass, as it reads"
_ONE_RENDERER = (
    "ids and trained mask come from one renderer, which puts special tokens where the chat template has them"
)
_NEVER_PUSHES = (
    "training never pushes to the Hub; read the report, then `poise publish RUN --to hub:OWNER/NAME`, RUN being "
    "output_dir"
)
_OWN_LAYOUT = "rows are laid out without padding, so nothing is padded"
_FIXED_TASK = "poise trains causal language models only"
_OWN_LOSS = "the objective computes the loss; transformers' own loss is not used"

NO_EFFECT: dict[str, str] = {
    "dataset_num_proc": _RENDERED_ONCE,
    "dataset_batch_size": _RENDERED_ONCE,
    "dataset_kwargs": _ONE_RENDERER,
    "auto_insert_empty_system_msg": "no system message is invented; the chat template decides",
    "truncation_mode": "a row that is too long is handled as `overlong` says",
    "truncation_side": "a row that is too long is handled as `overlong` says",
    "max_completion_length": "only max_length and max_prompt_length limit a row",
    "padding_free": "training is always free of padding",
    "pad_to_multiple_of": _OWN_LAYOUT,
    "padding_value": _OWN_LAYOUT,
    "pad_token": _OWN_LAYOUT,
    "label_pad_token_id": "the trained mask says what is trained, not a label id",
    "packing_strategy": "rows are packed best-fit within the token budget",
    "per_device_eval_batch_size": "the token budget decides the batch of evaluation",
    "eval_packing": "evaluation is laid out as training is",
    "assistant_only_loss": "sft always trains every assistant turn and nothing else",
    "completion_only_loss": "sft always trains every assistant turn and nothing else",
    "is_encoder_decoder": _FIXED_TASK,
    "lora_task_type": _FIXED_TASK,
    "generate_during_eval": "questions are asked before and after training; see `questions`",
    "precompute_ref_log_probs": "reference log-probabilities are computed once and kept; see `reference_cache`",
    "precompute_ref_batch_size": "the token budget decides the batch of the reference too",
    "model_code_revision": "code from a model's repository is never run",
    "base_model_revision": "an adapter names its base and the hash of it",
    "ignore_bias_buffers": "poise has no such buffers to ignore",
    "overwrite_output_dir": "a recipe neither replaces nor resumes a run; pass --overwrite or --resume",
    "save_safetensors": "weights are always saved as safetensors",
    "hub_model_id": _NEVER_PUSHES,
    "hub_strategy": _NEVER_PUSHES,
    "hub_private_repo": _NEVER_PUSHES,
    "hub_always_push": _NEVER_PUSHES,
    "hub_revision": _NEVER_PUSHES,
    "do_train": "the command says what to do",
    "do_predict": "the command says what to do",
    "use_liger_kernel": "the vocabulary projection is already computed only where a token is trained, in chunks",
    "liger_kernel_config": "the vocabulary projection is already computed only where a token is trained, in chunks",
    "average_tokens_across_devices": "losses are always divided by the count over all devices",
    "bf16_full_eval": "held-out rows are scored as training computes",
    "fp16_full_eval": "held-out rows are scored as training computes",
    "label_names": _OWN_LOSS,
    "label_smoothing_factor": "the objective computes the loss; dpo has label_smoothing",
    "group_by_length": "rows of unlike length cost nothing extra without padding",
    "length_column_name": "rows of unlike length cost nothing extra without padding",
}
"""Keys accepted so that known recipes run unmodified, each with the reason why nothing is lost."""

FORCED: dict[str, tuple[bool, str]] = {
    "remove_unused_columns": (False, "the batch carries what the objective needs, and no column beside it"),
    "logging_nan_inf_filter": (False, "a loss that is not a number must stop the run, not be logged as 0"),
    "auto_find_batch_size": (False, "the batch of the recipe is kept; memory is fitted by tokens_per_micro_batch"),
    "push_to_hub": (False, _NEVER_PUSHES),
    "trust_remote_code": (
        False,
        "code from a model's repository would run with all your rights; the model must be one that transformers knows",
    ),
    "enable_jit_checkpoint": (False, "SIGTERM and Ctrl-C always save a checkpoint at the end of the step"),
    "ignore_data_skip": (False, "a resumed run goes on with the next row"),
}
"""Keys whose value poise decides, with the reason."""

REPLACED: dict[str, tuple[dict[str, str], str]] = {
    "train_sampling_strategy": (
        {"group_by_length": "random", "batch_rebalance": "random"},
        "rows of unlike length cost nothing extra without padding",
    ),
}
"""Keys with values that need not act: (such a value -> what is taken instead, the reason)."""

REFUSED: dict[str, tuple[str, str]] = {
    "hub_token": (
        "a recipe must not hold a token: it is copied into every run",
        "remove the line and log in with `hf auth login`, or set HF_TOKEN; revoke the token if the file was shared",
    ),
    "resume_from_checkpoint": (
        "a recipe describes a run and cannot say that this run is a continuation",
        "remove the line and pass --resume",
    ),
    "fp16": (
        "float16 products need their loss scaled, and overflow until the scale is found; here that stops the run",
        "bf16: true, which needs no scale; on a GPU without bfloat16 neither, which trains in float32",
    ),
    "parallelism_config": (
        "this value cannot be written in a recipe",
        "put it in an accelerate configuration and start with `accelerate launch`",
    ),
}
"""Keys that stop the run when switched on: (why, what to do)."""

FOREIGN: dict[str, tuple[str, str]] = {
    "base_model": ("Axolotl", "model_name_or_path"),
    "base_model_config": ("Axolotl", "model_name_or_path"),
    "micro_batch_size": ("Axolotl", "per_device_train_batch_size"),
    "eval_batch_size": ("Axolotl", "per_device_eval_batch_size"),
    "num_epochs": ("Axolotl", "num_train_epochs"),
    "sequence_len": ("Axolotl", "max_length"),
    "sample_packing": ("Axolotl", "packing"),
    "lr_scheduler": ("Axolotl", "lr_scheduler_type"),
    "optimizer": ("Axolotl", "optim"),
    "adapter": ("Axolotl", "use_peft"),
    "evals_per_epoch": ("Axolotl", "eval_steps"),
    "saves_per_epoch": ("Axolotl", "save_steps"),
    "flash_attention": ("Axolotl", "attn_implementation"),
    "val_set_size": ("Axolotl", "dataset_mixture.test_split_size"),
    "datasets": ("Axolotl", "dataset_mixture"),
    "rl": ("Axolotl", "loss_type"),
    "cutoff_len": ("LLaMA-Factory", "max_length"),
    "lora_rank": ("LLaMA-Factory", "lora_r"),
    "lora_target": ("LLaMA-Factory", "lora_target_modules"),
    "finetuning_type": ("LLaMA-Factory", "use_peft"),
    "quantization_bit": ("LLaMA-Factory", "load_in_4bit"),
    "pref_beta": ("LLaMA-Factory", "beta"),
    "pref_loss": ("LLaMA-Factory", "loss_type"),
    "pref_ftx": ("LLaMA-Factory", "loss_weights"),
    "dpo_label_smoothing": ("LLaMA-Factory", "label_smoothing"),
    "rl_beta": ("Axolotl", "beta"),
    "rpo_alpha": ("an older TRL", "loss_weights"),
    "sft_weight": ("SimPO", "cpo_alpha"),
    "template": ("LLaMA-Factory", "chat_template"),
    "flash_attn": ("LLaMA-Factory", "attn_implementation"),
    "val_size": ("LLaMA-Factory", "dataset_mixture.test_split_size"),
    "max_samples": ("LLaMA-Factory", "max_train_samples"),
    "model_max_len": ("bagel", "max_length"),
    "bits": ("bagel", "load_in_4bit"),
    "full_finetune": ("bagel", "use_peft"),
    "double_quant": ("bagel", "use_bnb_nested_quant"),
    "quant_type": ("bagel", "bnb_4bit_quant_type"),
    "final_output_dir": ("bagel", "output_dir"),
    "workdir": ("bagel", "output_dir"),
    "dataset": ("LLaMA-Factory", "dataset_name"),
    "eval_dataset_size": ("bagel", "dataset_mixture.test_split_size"),
    "model": ("bagel", "model_name_or_path"),
}
"""Name in another tool -> (the tool, the key to write here)."""

TRACKERS: dict[str, tuple[str, str]] = {
    "clearml": ("clearml", "clearml"),
    "codecarbon": ("codecarbon", "codecarbon"),
    "comet_ml": ("comet_ml", "comet-ml"),
    "dvclive": ("dvclive", "dvclive"),
    "mlflow": ("mlflow", "mlflow"),
    "neptune": ("neptune", "neptune"),
    "swanlab": ("swanlab", "swanlab"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "trackio": ("trackio", "trackio"),
    "wandb": ("wandb", "wandb"),
}
"""Name in `report_to` -> (module to look for, package to install)."""
