"""What a recipe need not say: one table, each value the published or measured choice."""

from collections.abc import Iterator
from typing import Any, Literal

TRAINING: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "max_steps": -1,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "optim": "adamw_torch_fused",
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "bf16": False,
    "activation_checkpointing": False,
    "logging_steps": 10,
    "logging_first_step": True,
    "logging_nan_inf_filter": False,
    "report_to": [],
    "eval_strategy": "no",
    "save_strategy": "steps",
    "save_steps": 500,
    "save_total_limit": 2,
    "seed": 42,
    "remove_unused_columns": False,
    "push_to_hub": False,
}
"""The handbook's recipes where they agree (cosine, warmup over a tenth of the steps, one epoch, seed 42), else
transformers' own defaults; two checkpoints are kept, so that one verifies when the other was being written."""

LEARNING_RATES: dict[tuple[str, Literal["full", "LoRA"]], float] = {
    ("cpt", "full"): 2e-5,
    ("cpt", "LoRA"): 2e-4,
    ("sft", "full"): 2e-5,
    ("sft", "LoRA"): 2e-4,
    ("dpo", "full"): 5e-7,
    ("dpo", "LoRA"): 5e-6,
    ("orpo", "full"): 5e-6,
    ("orpo", "LoRA"): 5e-5,
    ("simpo", "full"): 6e-7,
    ("simpo", "LoRA"): 6e-6,
    ("cpo", "full"): 1e-5,
    ("cpo", "LoRA"): 1e-4,
    ("exo_pair", "full"): 1e-6,
    ("exo_pair", "LoRA"): 1e-5,
    ("apo_zero", "full"): 2e-7,
    ("apo_zero", "LoRA"): 2e-6,
    ("apo_down", "full"): 2e-7,
    ("apo_down", "LoRA"): 2e-6,
    ("nll", "full"): 2e-5,
    ("nll", "LoRA"): 2e-4,
}
"""sft and dpo: the handbook's zephyr-7b-beta recipes. orpo, full: its zephyr-141b recipe and the paper's Mistral run
(arXiv:2403.07691). simpo, full: its authors' Llama 3 base recipe. cpo, LoRA: its authors' ALMA-R (arXiv:2401.08417).
exo_pair and apo, full: the papers' (arXiv:2402.00856, arXiv:2408.06266). nll: sft's. The others keep the ratio of ten
between LoRA and full tuning that those recipes have."""

MAX_LENGTH = {"pairs": 1024, "answers": 1024, "tokens": 2048}
"""Tokens of a row: the handbook's dpo and sft recipes; unpaired answers are as long as paired ones."""


def default_training(verb: str, tuning: Literal["full", "LoRA"], name: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (key, value, origin) of every training default; an objective without its own rate takes dpo's."""
    yield "output_dir", f"runs/{name}-{verb}" if name else f"runs/{verb}", "default"
    like = verb if (verb, tuning) in LEARNING_RATES else "dpo"
    method = "with LoRA" if tuning == "LoRA" else "with all weights trained"
    yield "learning_rate", LEARNING_RATES[like, tuning], f"default for {like} {method}"
    for key, value in TRAINING.items():
        yield key, value, "default"
