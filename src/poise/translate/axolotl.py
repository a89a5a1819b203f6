"""Axolotl's YAML (0.19 to 0.21): https://github.com/axolotl-ai-cloud/axolotl, src/axolotl/utils/schemas."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from poise.dialects import REFUSED
from poise.errors import RecipeError
from poise.translate.data import Named, evenly, named_data
from poise.translate.tool import Setting, Tool, Unmapped, Values

OBJECTIVES = {"dpo": "dpo", "ipo": "ipo", "kto": "kto", "orpo": "orpo", "simpo": "simpo"}
PLAIN_TEXT = ("completion", "pretrain")
TEMPLATES = {"chatml": "chatml", "alpaca": "alpaca", "llama2": "llama-2"}
ENDS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<eos>", "<end_of_turn>")
"""Tokens with which known models end a text or a turn."""
_LAYOUT = "poise lays rows out without padding, so there is nothing to set"
_KERNEL = "poise chooses its own kernels"
_NO_OTHER = "poise trains causal language models with LoRA or all weights, and no other way"
_TRACKER = "set the tracker's own environment variables"

RENAMED = {
    "micro_batch_size": "per_device_train_batch_size", "num_epochs": "num_train_epochs", "sequence_len": "max_length",
    "optimizer": "optim", "lr_scheduler": "lr_scheduler_type", "max_prompt_len": "max_prompt_length",
    "peft_use_dora": "use_dora", "peft_use_rslora": "use_rslora", "dpo_label_smoothing": "label_smoothing",
    "dpo_loss_type": "loss_type", "dpo_loss_weights": "loss_weights", "kto_desirable_weight": "desirable_weight",
    "kto_undesirable_weight": "undesirable_weight", "chat_template_jinja": "chat_template",
    "adam_eps": "adam_epsilon", "wandb_name": "run_name", "trackio_project_name": "project",
    "trackio_run_name": "run_name", "revision_of_model": "model_revision", "tokenizer_config": "tokenizer_name_or_path",
}  # fmt: skip
VALUES: Mapping[str, Mapping[Any, Any]] = {
    "optim": {"adamw_hf": "adamw_torch", "adamw_apex_fused": "adamw_torch_fused"},
    "gradient_checkpointing": {"offload": True, "offload_disk": True, "unsloth": True},
}
UNMAPPED = {
    "dataset_prepared_path": "poise renders rows in the run and keeps no prepared copy",
    "dataset_processes": "poise renders text to tokens in one pass, as it reads",
    "dataset_exact_deduplication": "duplicates are dropped when a dataset is built: `poise curate`, step exact",
    "shuffle_merged_datasets": "rows are always shuffled by seed",
    "model_type": "transformers knows the class from the model's configuration",
    "tokenizer_*": "transformers knows the class from the tokenizer's own files",
    "processor_*": "poise trains on text; images and audio are not read",
    "pad_to_sequence_len": _LAYOUT, "eval_sample_packing": _LAYOUT, "sample_packing_*": _LAYOUT,
    "batch_flattening": _LAYOUT,
    "multipack_real_batches": _LAYOUT, "flash_attn_*": _KERNEL, "flash_optimum": _KERNEL, "liger_*": _KERNEL,
    "lora_mlp_kernel": _KERNEL, "lora_qkv_kernel": _KERNEL, "lora_o_kernel": _KERNEL, "use_kernels": _KERNEL,
    "cut_cross_entropy": _KERNEL, "chunked_cross_entropy": _KERNEL, "fused_attn_kernel": _KERNEL,
    "plugins": "plugins are Axolotl's own code; poise computes the loss in chunks without one",
    "strict": "every key of a recipe is checked", "fsdp_version": "say it in an accelerate configuration",
    "fsdp": "start with `accelerate launch` and its configuration", "fsdp_config": "as fsdp",
    "deepspeed": "start with `accelerate launch` and its configuration",
    "loss_watchdog_threshold": "a loss that is no number stops the run; poise has no other threshold",
    "loss_watchdog_patience": "as loss_watchdog_threshold",
    "early_stopping_patience": "poise trains to the end; keep checkpoints and compare their reports",
    "val_set_size": "", "wandb_watch": _TRACKER, "wandb_log_model": _TRACKER, "wandb_run_id": _TRACKER,
    "hub_model_id": "training never pushes; afterwards `poise publish RUN --to hub:OWNER/NAME`",
    "push_dataset_to_hub": "`poise curate … --push` uploads a dataset", "eot_tokens": "poise finds where a turn ends",
    "merge_lora": "merging is a step of its own, after the run is judged", "gptq*": _NO_OTHER, "relora*": _NO_OTHER,
    "lisa_*": _NO_OTHER, "unfrozen_parameters": _NO_OTHER, "qat": _NO_OTHER, "quantization": _NO_OTHER,
    "resume_from_checkpoint": "a recipe describes a run; pass --resume", "train_on_inputs": "poise trains answers only",
    "max_packed_sequence_len": "sequence_len decides", "remove_unused_columns": "poise decides the columns",
    "trust_remote_code": "poise runs no code from a model's repository",
}  # fmt: skip


def verb_of(values: Values) -> str:
    """Tell the objective by `rl`, reward model flags and the type of the data."""
    rl = values.get("rl")
    if values.get("reward_model") or values.get("process_reward_model") or (rl and rl not in OBJECTIVES):
        asked = rl or "a reward model"
        raise RecipeError(
            f"this Axolotl configuration trains {asked}, and poise has no objective like it\n"
            "    to do:  start from one whose rl is dpo, ipo, kto, orpo or simpo, or that has none"
        )
    types = [str(each.get("type", "")) for each in _datasets(values)]
    if not rl and (values.get("pretraining_dataset") or (types and all(kind in PLAIN_TEXT for kind in types))):
        return "cpt"
    return OBJECTIVES.get(str(rl), "sft")


def structure(verb: str, values: Values) -> Iterator[Setting | Unmapped]:
    """Read model and adapter, data, how often to save and evaluate, attention, precision and trackers."""
    yield from _model(values)
    yield from _data(verb, values)
    yield from _often(values)
    yield from _schedule(values)
    yield from _machine(values)
    for key in ("rl_beta", "orpo_alpha"):
        if values.get(key) is not None:
            yield Setting("beta", values[key], key)
    if verb in ("sft", "cpt"):
        if values.get("sample_packing") and verb == "sft":
            yield Setting("packing", True, "sample_packing")
    elif values.get("sample_packing"):
        yield Unmapped("sample_packing", True, "answers to one prompt always share its row")
    if values.get("simpo_gamma") is not None and verb == "simpo":
        yield Setting("simpo_gamma", values["simpo_gamma"], "simpo_gamma")


def _model(values: Values) -> Iterator[Setting | Unmapped]:
    adapter, start = values.get("adapter"), values.get("lora_model_dir")
    yield Setting("model_name_or_path", start or values.get("base_model"), "lora_model_dir" if start else "base_model")
    if adapter in ("lora", "qlora"):
        yield Setting("use_peft", True, f"adapter: {adapter}")
        for key in ("load_in_4bit", "load_in_8bit"):
            if values.get(key):
                yield Setting(key, True, key)
        if values.get("lora_target_linear"):
            yield Setting("lora_target_modules", "all-linear", "lora_target_linear: true")
        elif values.get("lora_target_modules"):
            yield Setting("lora_target_modules", values["lora_target_modules"], "lora_target_modules")
    elif adapter:
        yield Unmapped("adapter", adapter, _NO_OTHER)
    elif values.get("load_in_8bit") or values.get("load_in_4bit"):
        yield Unmapped("load_in_8bit", True, "quantized weights cannot be trained, only an adapter on them")
    tokens = cast("dict[str, Any]", values.get("special_tokens") or {})
    if tokens.get("eos_token"):
        yield Setting("eos_token", tokens["eos_token"], "special_tokens.eos_token")
    if tokens.get("pad_token"):
        yield Unmapped("special_tokens.pad_token", tokens["pad_token"], "nothing is padded")
    if values.get("bf16") is True:
        yield Setting("bf16", True, "bf16")
    if values.get("fp16") is True:
        yield Unmapped("fp16", True, REFUSED["fp16"][0])


def _data(verb: str, values: Values) -> Iterator[Setting | Unmapped]:
    entries = _datasets(values)
    named = [_named(entry) for entry in entries]
    held_out = values.get("val_set_size") or 0
    tests = cast("list[dict[str, Any]]", values.get("test_datasets") or [])
    yield from named_data(named, float(held_out), int(values.get("seed") or 42), "datasets")
    if tests and len(tests) == len(named) == 1 and tests[0].get("path") == entries[0].get("path") and not held_out:
        yield Setting("dataset_test_split", tests[0].get("split") or "test", "test_datasets")
    elif tests:
        yield Unmapped("test_datasets", tests, "name one dataset with dataset_train_split and dataset_test_split")
    kinds = [str(entry.get("type") or "") for entry in entries]
    template = values.get("chat_template")
    if values.get("chat_template_jinja"):
        pass
    elif template in TEMPLATES:
        yield Setting("chat_template", TEMPLATES[str(template)], "chat_template")
    elif verb == "sft" and kinds and all(kind.startswith("alpaca") for kind in kinds):
        yield Setting("chat_template", "alpaca", "datasets.type: alpaca")
    elif template not in (None, "tokenizer_default", "jinja"):
        yield Unmapped("chat_template", template, "the tokenizer's own template is used; see a row with `poise mask`")
    for entry in entries:
        for key in sorted(entry.keys() - {"path", "name", "split", "revision", "data_files", "ds_type", "type"}):
            if entry[key]:
                yield Unmapped(
                    f"datasets.{key}", entry[key], "poise recognises the columns; see a row with `poise mask`"
                )


def _datasets(values: Values) -> list[dict[str, Any]]:
    found: Any = values.get("datasets") or values.get("pretraining_dataset") or []
    listed = cast("list[Any]", found if isinstance(found, list) else [found])
    return [cast("dict[str, Any]", each) if isinstance(each, dict) else {"path": str(each)} for each in listed]


def _named(entry: dict[str, Any]) -> Named:
    files = entry.get("data_files")
    file = cast("list[str]", files)[0] if isinstance(files, list) else files
    path = str(file if file and entry.get("path") in ("json", "csv", "parquet", "text", "arrow") else entry.get("path"))
    return Named(path, entry.get("name"), str(entry.get("split") or "train"), entry.get("revision"))


def _often(values: Values) -> Iterator[Setting]:
    """Read how often to save and evaluate; Axolotl counts by epoch."""
    epochs = float(values.get("num_epochs") or 1)
    for what, per_epoch in (("save", values.get("saves_per_epoch")), ("eval", values.get("evals_per_epoch"))):
        if per_epoch == 0:
            yield Setting(f"{what}_strategy", "no", f"{what}s_per_epoch: 0")
        elif per_epoch and (what == "save" or values.get("val_set_size") or values.get("test_datasets")):
            if per_epoch == 1:
                yield Setting(f"{what}_strategy", "epoch", f"{what}s_per_epoch: 1")
            else:
                yield Setting(f"{what}_strategy", "steps", f"{what}s_per_epoch")
                yield Setting(f"{what}_steps", evenly(per_epoch, epochs), f"{what}s_per_epoch: {per_epoch}")


def _schedule(values: Values) -> Iterator[Setting]:
    share = values.get("cosine_min_lr_ratio")
    if share:
        yield Setting("lr_scheduler_type", "cosine_with_min_lr", "cosine_min_lr_ratio")
        yield Setting("lr_scheduler_kwargs", {"min_lr_rate": share}, "cosine_min_lr_ratio")


def _machine(values: Values) -> Iterator[Setting]:
    for key, kernel in (("flash_attention", "flash_attention_2"), ("sdp_attention", "sdpa"),
                        ("flex_attention", "flex_attention"), ("eager_attention", "eager")):  # fmt: skip
        if values.get(key) and not values.get("attn_implementation"):
            yield Setting("attn_implementation", kernel, key)
    trackers = {"wandb": "wandb_project", "tensorboard": "use_tensorboard", "mlflow": "mlflow_tracking_uri",
                "trackio": "trackio_project_name"}  # fmt: skip
    on = [name for name, key in trackers.items() if values.get(key)]
    if on:
        yield Setting("report_to", on, " and ".join(trackers[name] for name in on))


def risks(verb: str, values: Values) -> Iterator[str]:
    """Say what Axolotl would have done with this, that poise does otherwise."""
    pad = str((values.get("special_tokens") or {}).get("pad_token") or "")
    if pad in ENDS:
        yield (
            f"pad_token is {pad}, with which models end a text: masked as padding it is never trained, and the model "
            "does not stop. poise tells padding by place, and trains every stop token"
        )
    if values.get("excess_length_strategy") == "truncate":
        yield f"rows over {values.get('sequence_len')} tokens lose the end of their answer. poise drops and counts them"
    if values.get("train_on_inputs"):
        yield "the user's words are trained on as well as the answers. poise trains answers alone"
    if verb not in ("sft", "cpt") and values.get("lora_model_dir"):
        yield "the reference may be the base without the adapter. In poise it is the adapter as it was at the start"


TOOL = Tool(
    "Axolotl", verb_of, RENAMED, VALUES, UNMAPPED,
    defaults=lambda verb: {"lora_dropout": 0.0, "lr_scheduler_type": "cosine", "num_train_epochs": 1.0,
                           "warmup_steps": 0.03},
    structure=structure,
    structured=frozenset((
        "base_model", "base_model_config", "adapter", "lora_model_dir", "lora_target_linear", "lora_target_modules",
        "load_in_4bit", "load_in_8bit", "special_tokens", "bf16", "fp16", "bfloat16", "float16", "datasets",
        "pretraining_dataset", "test_datasets", "val_set_size", "chat_template", "saves_per_epoch", "evals_per_epoch",
        "cosine_min_lr_ratio", "flash_attention", "sdp_attention", "flex_attention", "eager_attention", "rl", "rl_beta",
        "orpo_alpha", "simpo_gamma", "sample_packing", "use_tensorboard", "use_wandb", "mlflow_tracking_uri",
        "excess_length_strategy", "reward_model", "process_reward_model",
    )),
    risks=risks,
)  # fmt: skip
