"""bagel's command lines, sft.py and dpo.py: https://github.com/jondurbin/bagel, bagel/tune."""

from collections.abc import Iterator, Mapping
from typing import Any

from poise.translate.data import Named, named_data
from poise.translate.tool import Setting, Tool, Unmapped, Values

NEFTUNE = 5.0
"""What bagel adds to embeddings without being asked."""
_GENERATION = "poise asks its questions after training; see `questions` and `max_new_tokens`"

RENAMED = {
    "model_max_len": "max_length", "model": "model_name_or_path", "double_quant": "use_bnb_nested_quant",
    "quant_type": "bnb_4bit_quant_type", "evaluation_strategy": "eval_strategy",
}  # fmt: skip
UNMAPPED = {
    "dataset_format": "poise recognises the columns; a dataset of bagel's formats keeps the text that it renders",
    "skip_excess_length": "a row that is too long is dropped and counted", "max_new_tokens": _GENERATION,
    "max_target_length": "it has no effect on a model without an encoder; only max_length and max_prompt_length limit",
    "workdir": "checkpoints lie in the run, beside the model", "sanity_check": "bagel declares it and does not read it",
    "do_mmlu_eval": "evaluating is a step of its own", "mmlu_*": "evaluating is a step of its own",
    "cache_dir": "set HF_HOME", "hub_token": "log in with `hf auth login`", "use_auth_token": "log in",
    "deepspeed": "start with `accelerate launch` and its configuration", "adapter_path": "",
    "predict_with_generate": _GENERATION, "trust_remote_code": "poise runs no code from a model's repository",
    "remove_unused_columns": "poise decides the columns",
}  # fmt: skip


def verb_of(values: Values) -> str:
    """Tell sft.py from dpo.py by the script or by their flags."""
    script = str(values.get("script") or "")
    return "dpo" if "dpo" in script or "max_target_length" in values or "workdir" in values else "sft"


def structure(verb: str, values: Values) -> Iterator[Setting | Unmapped]:
    """Read where the result goes, the data and its held-out share, what is trained, and bagel's hidden settings."""
    out = values.get("final_output_dir") or values.get("output_dir")
    if out:
        yield Setting("output_dir", out, "final_output_dir" if values.get("final_output_dir") else "output_dir")
    if values.get("final_output_dir") and values.get("output_dir"):
        yield Unmapped("output_dir", values["output_dir"], "checkpoints lie in the run, beside the model")
    if values.get("dataset"):
        held_out = float(values.get("eval_dataset_size") or 0)
        yield from named_data([Named(str(values["dataset"]))], held_out, int(values.get("data_seed") or 42), "dataset")
    bits = int(values.get("bits") or 4)
    if values.get("adapter_path"):
        yield Setting("model_name_or_path", values["adapter_path"], "adapter_path")
    if verb == "sft" and not _on(values.get("full_finetune")):
        yield Setting("use_peft", True, "full_finetune is not set")
        if bits in (4, 8):
            yield Setting(f"load_in_{bits}bit", True, f"bits {bits}")
        yield Setting("lora_target_modules", "all-linear", "bagel adapts every linear layer")
        for key, default in (("lora_r", 64), ("lora_alpha", 16), ("lora_dropout", 0.0)):
            if values.get(key) is None:
                yield Setting(key, default, "bagel's default")
    if values.get("neftune_noise_alpha") is None:
        yield Setting("neftune_noise_alpha", NEFTUNE, "bagel adds this noise without being asked")
    if verb == "dpo":
        yield Setting("optim", "rmsprop", "written in dpo.py")
        yield Setting("warmup_steps", 0.015, "written in dpo.py")
        yield Setting("lr_scheduler_type", "linear", "written in dpo.py")


def _on(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def risks(verb: str, values: Values) -> Iterator[str]:
    """Say what bagel would have done with this, that poise does otherwise."""
    length = values.get("model_max_len") or values.get("max_length") or 2048
    yield f"rows over {length} tokens lose the end of their answer and the stop token. poise drops and counts them"
    yield (
        "held-out rows are near-copies of trained ones: every row stands in four prompt formats before the split. "
        "poise curate splits first"
    )
    if verb == "dpo":
        yield "system prompts and earlier turns of the pairs are left out of the prompt. poise renders all of them"
        yield "the held-out share is drawn anew in every run. poise draws it by seed"


def defaults(verb: str) -> Mapping[str, Any]:
    """Return what holds there where nothing is said."""
    if verb == "dpo":
        return {"num_train_epochs": 3.0, "beta": 0.1, "max_prompt_length": 1024, "max_length": 4096}
    return {"num_train_epochs": 3.0, "lr_scheduler_type": "linear", "warmup_steps": 0, "max_length": 2048}


TOOL = Tool(
    "bagel", verb_of, RENAMED, {}, UNMAPPED, defaults=defaults, structure=structure, risks=risks,
    structured=frozenset((
        "script", "output_dir", "final_output_dir", "dataset", "eval_dataset_size", "bits", "full_finetune",
        "adapter_path", "optim", "data_seed",
    )),
)  # fmt: skip
