"""TRL's YAML and command lines (1.16), and the alignment handbook's recipes, whose dialect is poise's own."""

from collections.abc import Iterator, Mapping
from typing import Any

from poise.errors import RecipeError
from poise.names import names_in
from poise.translate.tool import Setting, Tool, Unmapped, Values

RATES = {"sft": 2e-5, "cpt": 2e-5, "dpo": 1e-6, "kto": 1e-6, "orpo": 1e-6}
"""TRL 1.16's default learning rates; other trainers have transformers' 5e-5."""
SCRIPTS = {"run_cpt": "cpt", "run_sft": "sft", "run_dpo": "dpo", "run_orpo": "orpo"}
PAIRWISE = ("loss_type", "beta", "max_prompt_length", "label_smoothing", "precompute_ref_log_probs")
UNMAPPED = {"config": "", "dataset_streaming": "poise reads all rows before it trains", "ignore_bias_buffers": ""}


def verb_of(values: Values) -> str:
    """Tell the objective by the command or script, else by keys that only preference trainers have."""
    script = str(values.get("script") or "")
    word = script.rsplit("/", 1)[-1].removesuffix(".py")
    verbs = names_in("poise.objectives")
    if word in SCRIPTS or word in verbs:
        return SCRIPTS.get(word, word)
    if word in ("grpo", "rloo", "reward", "online_dpo"):
        raise RecipeError(f"this is a configuration of {word}, and poise has no objective like it")
    return "dpo" if any(key in values for key in PAIRWISE) else "sft"


def structure(verb: str, values: Values) -> Iterator[Setting | Unmapped]:
    """Read TRL's list of datasets; every other key means here what it means there."""
    del verb
    if values.get("datasets"):
        mixture: dict[str, Any] = {"datasets": values["datasets"], "seed": 42}
        if values.get("test_split_size"):
            mixture["test_split_size"] = values["test_split_size"]
        yield Setting("dataset_mixture", mixture, "datasets")


def risks(verb: str, values: Values) -> Iterator[str]:
    """Say what TRL or the handbook's scripts would have done with this, that poise does otherwise."""
    limit = values.get("max_length") or values.get("max_seq_length") or 1024
    yield f"tokens after the {limit}th are cut, stop token included. poise drops such rows and counts them"
    mixture: Mapping[str, Any] = values.get("dataset_mixture") or {}
    splits = [str(each.get("split", "")) for each in mixture.get("datasets", [])]
    if mixture.get("test_split_size") and any("test" in split for split in splits):
        yield "test splits stand in dataset_mixture, so most of their rows are trained on. Take them out of it"
    if verb == "sft" and not values.get("assistant_only_loss") and not values.get("completion_only_loss"):
        yield "the user's and the system's words are trained on as well. poise trains the assistant's answers alone"
    if verb == "dpo" and values.get("use_peft") and "dataset_mixture" in values:
        yield "the handbook's dpo.py loads a second full model beside the adapter, which TRL refuses or never uses"
    if verb == "dpo" and values.get("load_in_4bit") and "dataset_mixer" in values:
        yield "the handbook merges the tuned adapter into the 4-bit weights, which loses precision. poise does not"
    if any(key in values for key in ("max_prompt_length", "max_seq_length", "evaluation_strategy", "warmup_ratio")):
        yield "today's TRL refuses max_prompt_length, max_seq_length and evaluation_strategy; poise honours them"


def trl_defaults(verb: str) -> Mapping[str, Any]:
    """Return what TRL 1.16 does where nothing is said."""
    return {
        "learning_rate": RATES.get(verb, 5e-5), "num_train_epochs": 3.0, "lr_scheduler_type": "linear",
        "warmup_steps": 0, "max_length": 1024, "gradient_checkpointing": True,
    }  # fmt: skip


def handbook_defaults(verb: str) -> Mapping[str, Any]:
    """Return what the handbook's scripts do where nothing is said: transformers' schedule, and rmsprop for DPO."""
    schedule: dict[str, Any] = {"num_train_epochs": 3.0, "lr_scheduler_type": "linear", "warmup_steps": 0}
    return schedule | ({"optim": "rmsprop"} if verb == "dpo" else {"optim": "adamw_torch"})


TRL = Tool("TRL", verb_of, {}, {}, UNMAPPED, defaults=trl_defaults, structure=structure,
           structured=frozenset(("script", "config", "datasets", "test_split_size")), risks=risks)  # fmt: skip
HANDBOOK = Tool("the alignment handbook", verb_of, {}, {}, UNMAPPED, defaults=handbook_defaults, structure=structure,
                structured=frozenset(("script", "config")), risks=risks)  # fmt: skip
