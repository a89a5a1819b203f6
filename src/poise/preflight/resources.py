"""The machine against the run: what the device refuses, memory, disk, trackers; and layers for an adapter."""

import re
from collections.abc import Iterator

from poise.preflight.finding import Finding
from poise.preflight.known import Known
from poise.preflight.machine import CREDENTIALS
from poise.preflight.model import ModelFacts
from poise.recipe import Recipe

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
TWO_MOMENTS = ("adamw_torch", "adamw_torch_fused", "paged_adamw_32bit")
"""Optimizers that keep two numbers for every trained weight, in its own type."""
NEW_TOKENS = 0.01
"""Share of a vocabulary that a tokenizer may add to it."""


def check_refusals(known: Known) -> Iterator[Finding]:
    """Pass on what poise or a library says it would refuse."""
    for code, message in known.refusals:
        what, _, rest = message.partition("\n")
        remedy = re.search(r"to do:\s*(.+)", rest)
        yield Finding(code, what, remedy[1] if remedy else "")


def check_trackers(known: Known) -> Iterator[Finding]:
    """Find trackers that would ask for a key."""
    for tracker in known.recipe.training["report_to"]:
        if tracker in CREDENTIALS and tracker not in known.machine.logged_in:
            variable = CREDENTIALS[tracker][0]
            yield Finding(
                "W506", f"report_to: {tracker}, and no credentials of it are here",
                f"set {variable}, log in, or report_to=none",
            )  # fmt: skip


def check_memory(known: Known) -> Iterator[Finding]:
    """Compare the memory a device has with the least that the run takes, and with a probe's forecast."""
    has = known.machine.memory_bytes
    if has is None or known.model is None or _is_sharded(known.recipe):
        return
    least = least_memory(known.recipe, known.model)
    if least > has:
        what = f"weights, gradients and optimizer take {size(least)}, {known.machine.device} has {size(has)}"
        yield Finding("E508", what)
    elif known.forecast_memory_bytes is not None and known.forecast_memory_bytes > has:
        what = f"the probe forecast {size(known.forecast_memory_bytes)}, {known.machine.device} has {size(has)}"
        yield Finding("W508", what, "tokens_per_micro_batch=… smaller, or activation_checkpointing=true")


def least_memory(recipe: Recipe, model: ModelFacts) -> int:
    """Bytes of weights, gradients and the optimizer's moments; activations, buffers and copies come on top."""
    weights = int(model.parameters * weight_bytes(recipe))
    if recipe.model.tuning == "LoRA":
        return weights
    trained = model.parameters * BYTES.get(str(recipe.model.torch_dtype), 4)
    return weights + trained + (2 * trained if recipe.training["optim"] in TWO_MOMENTS else 0)


def weight_bytes(recipe: Recipe) -> float:
    """Bytes of one weight as it is held in memory; 4 and 8 bits count without their scales."""
    section = recipe.model
    if section.load_in_4bit or section.load_in_8bit:
        return 0.5 if section.load_in_4bit else 1.0
    return BYTES.get(str(section.torch_dtype), 4)


def _is_sharded(recipe: Recipe) -> bool:
    return bool(recipe.training.get("fsdp") or recipe.training.get("deepspeed"))


def check_disk(known: Known) -> Iterator[Finding]:
    """Compare the free space with what model and checkpoints take."""
    free = known.machine.disk_free_bytes
    if free is None or known.model is None or not known.steps:
        return
    model, checkpoint = saved_bytes(known.recipe, known.model)
    kept = _checkpoints_kept(known.recipe, known.steps)
    needed = model + kept * checkpoint
    if model > free:
        yield Finding("E507", f"the model takes {size(model)}, {size(free)} are free")
    elif needed > free:
        yield Finding("W507", f"the model and {kept} checkpoints take {size(needed)}, {size(free)} are free")


def saved_bytes(recipe: Recipe, model: ModelFacts) -> tuple[int, int]:
    """Return the bytes of the saved model, and of a checkpoint with its optimizer."""
    if recipe.model.tuning == "LoRA":
        trained = recipe.model.lora_r * sum(model.linear_layers[name] for name in adapted(recipe, model)) * 4
    else:
        trained = model.parameters * BYTES.get(str(recipe.model.torch_dtype), 4)
    moments = 2 if recipe.training["optim"] in TWO_MOMENTS and not recipe.training.get("save_only_model") else 0
    return trained, trained * (1 + moments)


def _checkpoints_kept(recipe: Recipe, steps: int) -> int:
    """Return how many checkpoints lie there at most; a new one is whole before an old one goes."""
    strategy, limit = recipe.training["save_strategy"], recipe.training.get("save_total_limit")
    if strategy == "no":
        return 0
    every = float(recipe.training["save_steps"])
    made = int(steps // (every if every >= 1 else max(1.0, every * steps))) + 1
    if strategy != "steps":
        made = int(float(recipe.training["num_train_epochs"])) + 1
    return min(made, int(limit) + 1) if limit is not None else made


def adapted(recipe: Recipe, model: ModelFacts) -> list[str]:
    """Name the linear layers an adapter goes on; all but the head where peft or `all-linear` decides."""
    wanted = recipe.model.lora_target_modules
    if wanted is None or wanted == "all-linear":
        return [name for name in model.linear_layers if not name.endswith("lm_head")]
    if isinstance(wanted, str):
        return [name for name in model.linear_layers if re.fullmatch(wanted, name)]
    return [name for name in model.linear_layers if any(name == each or name.endswith(f".{each}") for each in wanted)]


def check_adapter(known: Known) -> Iterator[Finding]:
    """Find target modules that the model does not have."""
    section, model = known.recipe.model, known.model
    wanted = section.lora_target_modules
    if not section.use_peft or model is None or not isinstance(wanted, list) or not model.linear_layers:
        return
    ends = {name.rsplit(".", 1)[-1] for name in model.linear_layers}
    missing = [each for each in wanted if each.rsplit(".", 1)[-1] not in ends and each not in EMBEDDINGS]
    if missing:
        what = f"lora_target_modules: {', '.join(missing)} is no linear layer of this model"
        yield Finding("E601", what, f"its layers are {', '.join(sorted(ends))}")


EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "lm_head")
"""What adapters may be put on besides linear layers."""


def check_vocabulary(known: Known) -> Iterator[Finding]:
    """Find a tokenizer that has far more tokens than the model has rows for."""
    if known.tokenizer is None or known.model is None or not known.model.vocabulary:
        return
    has, rows = len(known.tokenizer.tokenizer) - len(known.tokenizer.added_tokens), known.model.vocabulary
    if has > rows * (1 + NEW_TOKENS):
        yield Finding("W602", f"the tokenizer has {has:,} tokens, the model embeddings for {rows:,}")


def size(count: float) -> str:
    """Write bytes in GiB."""
    return f"{count / 2**30:.1f} GiB"
