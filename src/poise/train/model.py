"""Load, adapt and save the model: device and dtype chosen and said, LoRA attached, stop tokens carried along."""

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from poise.batch.attention import use_attention
from poise.batch.score import usual_attention, without_adapter
from poise.batch.tokens import PreparedTokenizer
from poise.errors import ModelError
from poise.recipe_sections import ModelSection
from poise.run import write_whole
from poise.train.reference import weights_sha256

ADAPTER_BASE = "poise_base.json"
"""Beside an adapter: the hash of the base weights it was trained on."""


def quiet_libraries() -> None:
    """Silence the libraries' own bars, and a deprecation that peft runs into and no user can act on."""
    import warnings

    import transformers
    from datasets import disable_progress_bars

    transformers.utils.logging.disable_progress_bar()
    disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)


@dataclass(frozen=True)
class Hardware:
    """What the run computes with."""

    device: torch.device
    dtype: torch.dtype
    """Of the weights."""
    autocast: bool
    """Whether matrix products run in bfloat16 over weights of another type."""

    def computing(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context every forward pass outside the Trainer runs in."""
        if self.autocast:
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def __str__(self) -> str:
        """Say it in one phrase."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else self.device.type
        weights = str(self.dtype).removeprefix("torch.")
        return f"{name}, {weights} weights" + (", bfloat16 autocast" if self.autocast else "")


def choose_hardware(section: ModelSection, *, bf16: bool | None, use_cpu: bool = False) -> Hardware:
    """Take CUDA, else MPS, else the CPU; autocast to bfloat16 where asked, and by default on CUDA that has it.

    `torch_dtype: null` means float32 weights, which AdamW needs to move a little at a time; name a type to override.
    """
    kind = "cpu"
    if not use_cpu and torch.cuda.is_available():
        kind = "cuda"
    elif not use_cpu and torch.backends.mps.is_available():
        kind = "mps"
    asked = section.torch_dtype
    dtype = torch.float32 if asked in (None, "auto") else getattr(torch, str(asked))
    can = kind == "cpu" or (kind == "cuda" and torch.cuda.is_bf16_supported())
    if bf16 and not can:
        raise ModelError(f"bf16: true, but {kind} here has no bfloat16; set bf16=false, or torch_dtype=float16")
    autocast = bool(bf16) if bf16 is not None else kind == "cuda" and can
    return Hardware(torch.device(kind), dtype, autocast and dtype != torch.bfloat16)


@dataclass(frozen=True)
class LoadedModel:
    """A model from disk, perhaps with an adapter on it."""

    model: Any
    sha256: str
    """Hash of all its weights."""
    base_sha256: str
    """Hash of those under the adapter, which a saved adapter names as its base; the same without one."""


def load_model(section: ModelSection, hardware: Hardware, *, name: str | None = None) -> LoadedModel:
    """Load a causal language model, or a LoRA adapter on the base it names; weights from safetensors alone."""
    name = name or section.model_name_or_path
    adapter = _adapter_config(name, section.model_revision)
    if adapter is None:
        model = _load_base(name, section.model_revision, section, hardware)
        sha256 = weights_sha256(model)
        return LoadedModel(model, sha256, sha256)
    base = _load_base(adapter["base_model_name_or_path"], adapter.get("revision") or "main", section, hardware)
    base_sha256 = weights_sha256(base)
    _check_base(name, base, base_sha256)
    from peft import PeftModel

    model = PeftModel.from_pretrained(base, name, is_trainable=True)
    return LoadedModel(model, weights_sha256(model), base_sha256)


def load_tokenizer(section: ModelSection) -> Any:
    """Load the tokenizer that belongs to the model."""
    from transformers import AutoTokenizer

    name = section.tokenizer_name_or_path or section.model_name_or_path
    with _load_errors(name):
        return AutoTokenizer.from_pretrained(name, revision=section.model_revision, trust_remote_code=False)


def grow_vocabulary(model: Any, prepared: PreparedTokenizer) -> list[int]:
    """Give every token of the tokenizer an embedding; returns the new ones, whose values are random."""
    from peft import PeftModel

    base = without_adapter(model)
    rows = base.get_input_embeddings().weight.shape[0]
    new_rows = list(range(rows, len(prepared.tokenizer)))
    if new_rows and isinstance(model, PeftModel):
        raise ModelError(
            f"the tokenizer has {len(prepared.tokenizer)} tokens, the adapter's base {rows}: "
            "merge it first (merge_and_unload of peft), then train on the merged model"
        )
    if new_rows:
        base.resize_token_embeddings(len(prepared.tokenizer))
    return new_rows


def make_trainable(model: Any, section: ModelSection, prepared: PreparedTokenizer, new_rows: list[int]) -> Any:
    """Attach LoRA, go on with an adapter, or train everything; `new_rows` of the vocabulary are trained in any case."""
    from peft import LoraConfig, PeftModel, get_peft_model

    base = without_adapter(model)
    _set_stop_tokens(base, prepared)
    if not section.use_peft:
        return model.merge_and_unload().requires_grad_(True) if isinstance(model, PeftModel) else model
    if isinstance(model, PeftModel):
        _refuse_other_shape(model, section)
        return model
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=section.lora_r,
        lora_alpha=section.lora_alpha,
        lora_dropout=section.lora_dropout,
        target_modules=section.lora_target_modules,
        target_parameters=section.lora_target_parameters,
        modules_to_save=section.lora_modules_to_save,
        use_rslora=section.use_rslora,
        use_dora=section.use_dora,
        trainable_token_indices=_rows_to_train(base, new_rows),
    )
    return get_peft_model(model, config)


def _refuse_other_shape(model: Any, section: ModelSection) -> None:
    """Refuse what a recipe says of LoRA where the adapter it goes on with has another shape."""
    adapter = model.peft_config["default"]
    has = {
        "lora_r": adapter.r,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": adapter.lora_dropout,
        "lora_target_modules": adapter.target_modules,
        "lora_modules_to_save": adapter.modules_to_save or [],
        "use_dora": adapter.use_dora,
        "use_rslora": adapter.use_rslora,
    }
    for key in has.keys() & section.model_fields_set:
        said = getattr(section, key)
        if said == "all-linear":  # peft spells it out in the adapter
            continue
        same = set(said) == set(has[key]) if isinstance(said, list) else said == has[key]
        if said is not None and not same:
            raise ModelError(
                f"{section.model_name_or_path} is an adapter with {key} {_shown(has[key])}, "
                f"the recipe says {_shown(said)}\n"
                "    why:    training goes on with that adapter, whose shape is fixed\n"
                f"    to do:  remove {key} from the recipe, or start from a model the adapter is merged into"
            )


def _shown(value: Any) -> str:
    return ", ".join(sorted(value)) if isinstance(value, list | set) else str(value)


def disable_dropout(model: Any) -> None:
    """Turn every dropout off, LoRA's too: a preference margin is the difference of two passes that must agree."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name in ("attention_dropout", "attn_pdrop", "attn_dropout"):
        for module in model.modules():
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def save_model(model: Any, prepared: PreparedTokenizer, folder: Path, base_sha256: str) -> None:
    """Write weights, tokenizer with template, and the stop tokens, so that default generation stops by itself."""
    from peft import PeftModel

    causal_lm = without_adapter(model)
    with use_attention(causal_lm, usual_attention(causal_lm)):
        model.save_pretrained(str(folder))
    prepared.tokenizer.save_pretrained(folder)
    causal_lm.generation_config.save_pretrained(folder)
    if isinstance(model, PeftModel):
        write_whole(folder / ADAPTER_BASE, json.dumps({"base_weights_sha256": base_sha256}) + "\n")


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return (all, trainable)."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, _ in counts), sum(count for count, trained in counts if trained)


def _load_base(name: str, revision: str, section: ModelSection, hardware: Hardware) -> Any:
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False, "use_safetensors": True}
    options["dtype"] = "auto" if section.torch_dtype == "auto" else hardware.dtype
    if section.load_in_4bit or section.load_in_8bit:
        options |= {"quantization_config": _quantization(section, hardware), "device_map": {"": hardware.device}}
    with _load_errors(name):
        model: Any = AutoModelForCausalLM.from_pretrained(name, **options)
    if "device_map" not in options:
        return model.to(hardware.device)
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def _quantization(section: ModelSection, hardware: Hardware) -> Any:
    from importlib.util import find_spec

    if hardware.device.type != "cuda":
        raise ModelError(
            f"load_in_4bit and load_in_8bit need CUDA, this run has {hardware.device.type}\n"
            "    why:    bitsandbytes' kernels elsewhere give no gradient once a model was evaluated\n"
            "    to do:  load_in_4bit=false for LoRA over whole weights"
        )
    if find_spec("bitsandbytes") is None:
        raise ModelError("load_in_4bit and load_in_8bit need bitsandbytes: pip install 'poise[quantize]'")
    from transformers import BitsAndBytesConfig

    computing = section.bnb_4bit_compute_dtype or ("bfloat16" if hardware.autocast else hardware.dtype)
    return BitsAndBytesConfig(
        load_in_4bit=section.load_in_4bit,
        load_in_8bit=section.load_in_8bit,
        bnb_4bit_quant_type=section.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=section.use_bnb_nested_quant,
        bnb_4bit_compute_dtype=computing,
        bnb_4bit_quant_storage=section.bnb_4bit_quant_storage,
    )


def _adapter_config(name: str, revision: str) -> dict[str, Any] | None:
    from transformers.utils.peft_utils import find_adapter_config_file

    if Path(name).is_dir():
        file = Path(name) / "adapter_config.json"
        return json.loads(file.read_text()) if file.is_file() else None
    with _load_errors(name):
        found = find_adapter_config_file(name, revision=revision)
    return json.loads(Path(found).read_text()) if found else None


def _check_base(adapter: str, base: Any, here: str) -> None:
    file = Path(adapter) / ADAPTER_BASE
    if not file.is_file():
        return
    trained_on = json.loads(file.read_text())["base_weights_sha256"]
    if trained_on != here:
        raise ModelError(
            f"{adapter} was trained on base weights {trained_on[:12]}…, but {base.config.name_or_path} now has "
            f"{here[:12]}…: its numbers would mean nothing there. Point base_model_name_or_path in "
            "adapter_config.json at the base it was trained on."
        )


def _rows_to_train(base: Any, rows: list[int]) -> Any:
    """Name the embedding rows of new tokens, which an adapter must train or they stay noise."""
    if not rows:
        return None
    inputs, outputs = base.get_input_embeddings(), base.get_output_embeddings()
    names = {module: name.rsplit(".", 1)[-1] for name, module in base.named_modules()}
    tied = outputs is None or outputs.weight is inputs.weight
    return {names[inputs]: rows} if tied else {names[inputs]: rows, names[outputs]: rows}


def _set_stop_tokens(base: Any, prepared: PreparedTokenizer) -> None:
    stops = list(prepared.stop_ids)
    base.generation_config.eos_token_id = stops if len(stops) > 1 else stops[0]
    base.generation_config.pad_token_id = prepared.pad_id
    base.generation_config.bos_token_id = prepared.tokenizer.bos_token_id
    base.config.eos_token_id = stops[0]
    base.config.pad_token_id = prepared.pad_id


@contextlib.contextmanager
def _load_errors(name: str) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        where = "this folder" if Path(name).exists() else "no folder of that name, and the Hub gave nothing"
        raise ModelError(
            f"cannot load {name!r} ({where}): {first}\n"
            "    to do:  check the path or the Hub id and your connection; poise loads safetensors weights only"
        ) from error
