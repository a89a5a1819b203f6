"""LLaMA-Factory's YAML and command lines (0.9): https://github.com/hiyouga/LLaMA-Factory, src/llamafactory/hparams."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from poise.errors import RecipeError
from poise.translate.data import Named, named_data
from poise.translate.tool import Setting, Tool, Unmapped, Values

STAGES = {"pt": "cpt", "sft": "sft", "kto": "kto", "dpo": "dpo"}
LOSSES = {"sigmoid": "dpo", "hinge": "hinge", "ipo": "ipo", "orpo": "orpo", "simpo": "simpo"}
TEMPLATES = {"chatml": "chatml", "alpaca": "alpaca", "vicuna": "vicuna", "zephyr": "zephyr", "llama2": "llama-2"}
ATTENTION = {"fa2": "flash_attention_2", "fa3": "flash_attention_3", "sdpa": "sdpa", "disabled": "eager"}
_NO_OTHER = "poise trains with LoRA or all weights, and no other way"
_GENERATION = "poise asks its questions after training; see `questions` and `max_new_tokens`"
_READ_ONCE = "poise renders text to tokens in one pass, as it reads"

RENAMED = {
    "cutoff_len": "max_length", "lora_rank": "lora_r", "pref_beta": "beta", "dpo_label_smoothing": "label_smoothing",
    "double_quantization": "use_bnb_nested_quant", "quantization_type": "bnb_4bit_quant_type",
    "kto_chosen_weight": "desirable_weight", "kto_rejected_weight": "undesirable_weight",
    "moe_aux_loss_coef": "router_aux_loss_coef", "ref_model": "ref_model_name_or_path",
    "max_samples": "max_train_samples", "additional_target": "lora_modules_to_save",
    "flash_attn": "attn_implementation",
}  # fmt: skip
VALUES: Mapping[str, Mapping[Any, Any]] = {"attn_implementation": {**ATTENTION, "auto": None}}
UNMAPPED = {
    "dataset_dir": "", "media_dir": "poise trains on text; images and audio are not read",
    "preprocessing_*": _READ_ONCE, "overwrite_cache": _READ_ONCE, "tokenized_path": _READ_ONCE, "streaming": _READ_ONCE,
    "plot_loss": "every run has a report with its curves", "neat_packing": "packed rows never see each other",
    "mask_history": "poise trains every answer of a conversation", "train_on_prompt": "poise trains answers only",
    "pref_ftx": "a weighted sum with the likelihood: loss_type: [sigmoid, sft], loss_weights: [1, …]",
    "pref_bco_weight": "loss_type: [sigmoid, bco_pair] with loss_weights", "use_unsloth*": "poise has its own kernels",
    "enable_liger_kernel": "the vocabulary projection is computed in chunks already",
    "default_system": "write the system message into the data", "predict_with_generate": _GENERATION,
    "do_sample": _GENERATION, "temperature": _GENERATION, "top_p": _GENERATION, "top_k": _GENERATION,
    "eval_dataset": "name one dataset with dataset_train_split and dataset_test_split",
    "interleave_probs": "weights of a dataset_mixture are shares of each dataset", "mix_strategy": "as one",
    "compute_accuracy": "rewards and accuracies are logged for pairs", "export_*": "exporting is a step of its own",
    "infer_*": _GENERATION, "vllm_*": _GENERATION, "sglang_*": _GENERATION, "ray_*": "start with a launcher",
    "loraplus_*": _NO_OTHER, "pissa_*": _NO_OTHER, "use_galore": "optim: galore_adamw", "galore_*": "optim_args",
    "use_badam": _NO_OTHER, "badam_*": _NO_OTHER, "use_llama_pro": _NO_OTHER, "freeze_*": _NO_OTHER, "oft_*": _NO_OTHER,
    "image_*": "poise trains on text", "video_*": "poise trains on text", "*_hub_token": "log in with `hf auth login`",
    "trust_remote_code": "poise runs no code from a model's repository",
    "deepspeed": "start with `accelerate launch` and its configuration",
    "overwrite_output_dir": "pass --overwrite", "resume_from_checkpoint": "pass --resume",
}  # fmt: skip


def verb_of(values: Values) -> str:
    """Tell the objective by stage and preference loss."""
    stage = str(values.get("stage") or "sft")
    if stage not in STAGES:
        raise RecipeError(
            f"this LLaMA-Factory configuration is of the stage {stage}, and poise has no objective like it\n"
            f"    to do:  start from one of the stages {', '.join(STAGES)}"
        )
    loss = str(values.get("pref_loss") or "sigmoid")
    return LOSSES.get(loss, "dpo") if stage == "dpo" else STAGES[stage]


def structure(verb: str, values: Values) -> Iterator[Setting | Unmapped]:
    """Read model, adapter, quantization, data, template and gradient checkpointing."""
    yield from _model(values)
    yield from _data(values)
    template = values.get("template")
    if template in TEMPLATES:
        yield Setting("chat_template", TEMPLATES[str(template)], "template")
    elif template not in (None, "default", "empty"):
        yield Unmapped("template", template, "the tokenizer's own template is used; see a row with `poise mask`")
    if not values.get("disable_gradient_checkpointing"):
        yield Setting("gradient_checkpointing", True, "LLaMA-Factory's default")
    if values.get("packing") and verb == "sft":
        yield Setting("packing", True, "packing")
    if verb == "simpo" and values.get("simpo_gamma") is not None:
        yield Setting("simpo_gamma", values["simpo_gamma"], "simpo_gamma")
    if values.get("pref_loss") == "kto_pair":
        yield Unmapped("pref_loss", "kto_pair", "poise's kto takes labelled answers; the objective is dpo")


def _model(values: Values) -> Iterator[Setting | Unmapped]:
    start = values.get("adapter_name_or_path")
    origin = "adapter_name_or_path" if start else "model_name_or_path"
    yield Setting("model_name_or_path", start or values.get("model_name_or_path"), origin)
    kind = values.get("finetuning_type") or "lora"
    if kind == "lora":
        yield Setting("use_peft", True, f"finetuning_type: {kind}")
        rank = values.get("lora_rank") or 8
        if not values.get("lora_rank"):
            yield Setting("lora_r", 8, "LLaMA-Factory's default")
        alpha = values.get("lora_alpha")
        yield Setting("lora_alpha", alpha or 2 * rank, "lora_alpha" if alpha else "twice lora_rank, its default")
        target = values.get("lora_target") or "all"
        names = "all-linear" if target == "all" else _names(target)
        yield Setting("lora_target_modules", names, "lora_target")
        bits = values.get("quantization_bit")
        if bits in (4, 8):
            yield Setting(f"load_in_{bits}bit", True, "quantization_bit")
        elif bits:
            yield Unmapped("quantization_bit", bits, "poise quantizes to 4 or 8 bits")
        if start and values.get("create_new_adapter"):
            yield Setting("adapter_continuation", "merge", "create_new_adapter")
    elif kind != "full":
        yield Unmapped("finetuning_type", kind, _NO_OTHER)


def _data(values: Values) -> Iterator[Setting | Unmapped]:
    folder = Path(str(values.get("dataset_dir") or "data"))
    known = _dataset_info(folder)
    names = _names(values.get("dataset") or "")
    held_out = float(values.get("val_size") or 0)
    yield from named_data([_named(name, known.get(name), folder) for name in names], held_out, 42, "dataset")
    for name in names:
        if name not in known:
            yield Unmapped(
                "dataset", name, f"a name of {folder}/dataset_info.json; write the file or Hub id it stands for"
            )


def _dataset_info(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _named(name: str, info: dict[str, Any] | None, folder: Path) -> Named:
    if not info:
        return Named(name)
    place = info.get("hf_hub_url") or (str(folder / info["file_name"]) if info.get("file_name") else name)
    return Named(str(place), info.get("subset"), str(info.get("split") or "train"))


def _names(value: Any) -> list[str]:
    listed = cast("list[Any]", value) if isinstance(value, list) else str(value).split(",")
    return [str(each).strip() for each in listed if str(each).strip()]


def risks(verb: str, values: Values) -> Iterator[str]:
    """Say what LLaMA-Factory would have done with this, that poise does otherwise."""
    pairs = verb not in ("cpt", "sft")
    lora = (values.get("finetuning_type") or "lora") == "lora"
    adapter = values.get("adapter_name_or_path") and not values.get("create_new_adapter")
    if pairs and verb not in ("orpo", "simpo") and lora and adapter and not values.get("ref_model"):
        yield (
            "the adapter is trained further and the reference is the model with adapters off: the raw base, not the "
            "tuned model. In poise the reference is the policy as it was at the start"
        )
    cut = values.get("cutoff_len") or 2048
    yield f"rows over {cut} tokens are cut, the answer's end and its stop token with it. poise drops and counts them"
    if values.get("packing") and not values.get("neat_packing"):
        yield "packed rows attend to each other without neat_packing. In poise they never do"
    if values.get("train_on_prompt"):
        yield "the user's words are trained on as well as the answers. poise trains answers alone"


def defaults(verb: str) -> Mapping[str, Any]:
    """Return what holds there where nothing is said: transformers' own schedule, and its own rate and dropout."""
    schedule = {"learning_rate": 5e-5, "num_train_epochs": 3.0, "lr_scheduler_type": "linear", "warmup_steps": 0}
    return {**schedule, "max_length": 2048, "lora_dropout": 0.0}


TOOL = Tool(
    "LLaMA-Factory", verb_of, RENAMED, VALUES, UNMAPPED, defaults=defaults, structure=structure, risks=risks,
    structured=frozenset((
        "model_name_or_path", "adapter_name_or_path", "finetuning_type", "lora_alpha", "lora_target",
        "quantization_bit", "create_new_adapter", "dataset", "dataset_dir", "val_size", "template",
        "disable_gradient_checkpointing",
        "packing", "simpo_gamma", "pref_loss", "stage", "do_train", "do_eval", "quantization_method",
    )),
    foreign=frozenset(("max_length", "max_new_tokens")),
)  # fmt: skip
