"""LoRA and its kin on a model: attached as a recipe says, saved with the hash of the weights beneath, read back.

LoRA: Hu et al. 2021, arXiv:2106.09685. rsLoRA: Kalajdzievski 2023, arXiv:2312.03732. DoRA: Liu et al. 2024,
arXiv:2402.09353.
"""

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from poise.errors import ModelError
from poise.models.open import adapter_folder, open_adapter, open_adapter_config, open_config
from poise.recipe_sections import ModelSection
from poise.run import write_whole
from poise.train.stacked import BENEATH, TRAINED, load_upper, save_as_one

ADAPTER_BASE = "poise_base.json"
"""Beside an adapter: the hash of the base weights it was trained on."""


def attach_adapter(base: Any, section: ModelSection, new_rows: list[int]) -> Any:
    """Put a new LoRA adapter on a model, in place; `new_rows` of its embeddings are trained in any case."""
    from peft import get_peft_model

    with adapter_errors():
        return get_peft_model(base, lora_config(base, section, new_rows))


def lora_config(base: Any, section: ModelSection, new_rows: list[int]) -> Any:
    """Translate a recipe into peft's LoraConfig. Tied embeddings stay tied, whatever is trained of them."""
    from peft import LoraConfig

    _refuse_quantized_copies(base, section)
    to_save = _modules_to_save(base, section)
    trained = {*(to_save or []), *_names(section.lora_target_modules)}
    return LoraConfig(
        task_type="CAUSAL_LM",
        revision=section.model_revision if section.model_revision != "main" else None,
        r=section.lora_r,
        lora_alpha=section.lora_alpha,
        lora_dropout=lora_dropout(section),
        target_modules=section.lora_target_modules,
        target_parameters=section.lora_target_parameters,
        modules_to_save=to_save,
        use_rslora=section.use_rslora,
        use_dora=section.use_dora,
        trainable_token_indices=_rows_to_train(base, new_rows, to_save or []),
        ensure_weight_tying=_is_tied(base) and bool(trained & set(embedding_names(base))),
    )


def lora_dropout(section: ModelSection) -> float:
    """Return the recipe's dropout; 0 where it is unsaid and whole parameters are adapted, which allow none."""
    unsaid = "lora_dropout" not in section.model_fields_set
    return 0.0 if unsaid and section.lora_target_parameters else section.lora_dropout


def adapter_config(name: str, revision: str) -> dict[str, Any] | None:
    """Return an adapter's configuration as it is on disk or on the Hub; None where `name` is no adapter."""
    return open_adapter_config(name, revision)


def put_on(base: Any, name: str, revision: str, *, adapter_name: str = TRAINED, trainable: bool = True) -> Any:
    """Load an adapter onto its base, whose vocabulary grows to the one the adapter was trained with."""
    _make_room(base, name, revision)
    with adapter_errors():
        return open_adapter(base, name, revision, adapter_name=adapter_name, trainable=trainable)


def save_adapter(model: Any, folder: Path, base_sha256: str, weights: dict[str, Any] | None = None) -> None:
    """Write the adapter, stacked ones as a single one, and the hash of what it stands on."""
    if BENEATH in model.peft_config:
        save_as_one(model, folder)
    else:  # the base is never saved with it: rows and modules that are trained are the adapter's own
        model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=weights)
    write_whole(folder / ADAPTER_BASE, json.dumps({"base_weights_sha256": base_sha256}) + "\n")


def load_adapter_weights(model: Any, folder: Path) -> None:
    """Give the trained adapter of a model the weights that `save_adapter` wrote, bit for bit."""
    from peft import load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(str(folder), device="cpu")
    if BENEATH in model.peft_config:
        load_upper(model, weights)
        return
    unknown = set_peft_model_state_dict(model, weights).unexpected_keys
    if unknown:
        raise ModelError(f"{folder} does not hold this adapter: it has {', '.join(unknown[:3])}")


def check_base(adapter: str, base_name: str, here: str) -> None:
    """Refuse an adapter on other base weights than it was trained on."""
    file = Path(adapter) / ADAPTER_BASE
    if not file.is_file():
        return
    trained_on = json.loads(file.read_text())["base_weights_sha256"]
    if trained_on != here:
        raise ModelError(
            f"{adapter} was trained on base weights {trained_on[:12]}…, but {base_name} now has {here[:12]}…: "
            "its numbers would mean nothing there. Point base_model_name_or_path in adapter_config.json at the base "
            "it was trained on."
        )


def stored_sha256(name: str, revision: str = "main") -> str:
    """SHA-256 over names, shapes, types and bytes of a model's weights as stored: the same however they are loaded."""
    from safetensors import safe_open

    content = hashlib.sha256()
    for file in _weight_files(name, revision):
        with safe_open(file, "pt") as stored:
            for key in sorted(stored.keys()):
                tensor: torch.Tensor = stored.get_tensor(key)
                content.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
                content.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()


def vocabulary(name: str, revision: str, adapter: dict[str, Any]) -> int:
    """Count the tokens that an adapted model has rows for, before it is loaded."""
    base = open_config(adapter["base_model_name_or_path"], adapter.get("revision") or "main")
    return max([base.get_text_config().vocab_size, *_rows_of(name, revision, adapter, ("embed_tokens", "lm_head"))])


def embedding_names(model: Any) -> list[str]:
    """Name the modules of input and output embeddings by the last part: embed_tokens, lm_head."""
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [name.rsplit(".", 1)[-1] for end in ends for name, module in model.named_modules() if module is end]


@contextlib.contextmanager
def adapter_errors() -> Generator[None]:
    """Turn what peft says of an impossible adapter into a ModelError."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"this adapter does not fit this model: {first}\n"
            "    to do:  look at lora_target_modules, lora_target_parameters and lora_modules_to_save"
        ) from error


def _names(modules: list[str] | str | None) -> list[str]:
    return [modules] if isinstance(modules, str) else modules or []


def _modules_to_save(base: Any, section: ModelSection) -> list[str] | None:
    """Of tied embeddings, name the input alone: peft ties the head to it."""
    named = section.lora_modules_to_save
    ends = embedding_names(base)
    if not named or not _is_tied(base) or ends[-1] not in named:
        return named
    return [*dict.fromkeys(ends[0] if name == ends[-1] else name for name in named)]


def _is_tied(base: Any) -> bool:
    outputs = base.get_output_embeddings()
    return outputs is not None and outputs.weight is base.get_input_embeddings().weight


def _rows_to_train(base: Any, rows: list[int], to_save: list[str]) -> dict[str, list[int]] | None:
    """Name the embedding rows of new tokens, which an adapter must train or they stay noise."""
    ends = embedding_names(base)
    apart = ends[:1] if _is_tied(base) else ends
    return {name: rows for name in apart if name not in to_save} or None if rows else None


def _refuse_quantized_copies(base: Any, section: ModelSection) -> None:
    if not section.lora_modules_to_save or not getattr(base, "is_quantized", False):
        return
    from poise.train.quantize import quantized_linears

    for name in quantized_linears(base):
        if any(name == wanted or name.endswith("." + wanted) for wanted in section.lora_modules_to_save):
            raise ModelError(
                f"lora_modules_to_save: {name} is quantized here, and quantized weights cannot be trained\n"
                "    to do:  name it in lora_target_modules instead, or load without quantization"
            )


def _make_room(base: Any, adapter: str, revision: str) -> None:
    """Add the rows of tokens that only the adapter has; their values are the adapter's."""
    rows = base.get_input_embeddings().weight.shape[0]
    config = adapter_config(adapter, revision) or {}
    wanted = max(_rows_of(adapter, revision, config, embedding_names(base)), default=rows)
    if wanted > rows:
        base.resize_token_embeddings(wanted, mean_resizing=False)
        for end in (base.get_input_embeddings(), base.get_output_embeddings()):
            with torch.no_grad():
                end.weight[rows:] = 0


def _rows_of(name: str, revision: str, adapter: dict[str, Any], ends: Sequence[str]) -> Iterator[int]:
    """Yield the vocabularies that an adapter's own rows and embeddings speak of."""
    from peft import load_peft_weights

    indices = adapter.get("trainable_token_indices") or {}
    for rows in indices.values() if isinstance(indices, dict) else [indices]:
        yield max(rows) + 1
    if set(adapter.get("modules_to_save") or []) & set(ends):
        weights = load_peft_weights(str(adapter_folder(name, revision)), device="cpu")
        yield from (len(weights[key]) for key in weights if key.rpartition(".weight")[0].rpartition(".")[2] in ends)


def _weight_files(name: str, revision: str) -> list[str]:
    """Return the safetensors files of a model that is on this machine."""
    from transformers.utils.hub import cached_file

    def find(file: str) -> str | None:
        return cached_file(
            name, file, revision=revision, local_files_only=True, _raise_exceptions_for_missing_entries=False
        )

    index = find("model.safetensors.index.json")
    if index is None:
        return [file for file in [find("model.safetensors")] if file]
    shards = sorted(set(json.loads(Path(index).read_text())["weight_map"].values()))
    return [file for shard in shards if (file := find(shard))]
