"""A model with its adapter merged into its weights, on disk beside the run: the base of the adapter trained next."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from poise.batch.tokens import PreparedTokenizer
from poise.recipe_sections import ModelSection
from poise.run import file_sha256, write_whole
from poise.train.adapters import adapter_config, stored_sha256
from poise.train.model import Hardware, load_model, set_stop_tokens
from poise.train.quantize import is_quantized

MERGED = "poise_merged.json"
"""In a merged base: what it was merged from, and the hash of its weights."""


def merged_base(section: ModelSection, hardware: Hardware, prepared: PreparedTokenizer, folder: Path) -> Path:
    """Write a model with its adapter merged into unquantized weights of the run's type; reuse it where it is there.

    Returns the absolute path, because the adapter trained on it names it as its base.
    """
    folder = folder.resolve()
    if is_quantized(section):  # whole weights may not fit the device
        hardware = replace(hardware, device=torch.device("cpu"))
    facts = merge_facts(section, hardware)
    if _is_merged(folder, facts):
        return folder
    whole = section.model_copy(update={"load_in_4bit": False, "load_in_8bit": False})
    model = merge_adapter(load_model(whole, hardware).model)
    set_stop_tokens(model, prepared)
    staging = folder.with_name(f".{folder.name}.{id(model)}")
    model.save_pretrained(str(staging))
    prepared.tokenizer.save_pretrained(staging)
    write_whole(staging / MERGED, json.dumps({**facts, "weights_sha256": stored_sha256(str(staging))}) + "\n")
    if not _is_merged(folder, facts):  # another process of this run may have been faster
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    shutil.rmtree(staging, ignore_errors=True)
    return folder


def merge_facts(section: ModelSection, hardware: Hardware) -> dict[str, str]:
    """Return what decides the merged weights: hashes of base and adapter, and the type."""
    from peft.utils import SAFETENSORS_WEIGHTS_NAME
    from transformers.utils.hub import cached_file

    name, revision = section.model_name_or_path, section.model_revision
    config = adapter_config(name, revision) or {}
    weights = cached_file(name, SAFETENSORS_WEIGHTS_NAME, revision=revision)
    return {
        "base": stored_sha256(config["base_model_name_or_path"], config.get("revision") or "main"),
        "adapter": file_sha256(Path(str(weights))),
        "dtype": str(hardware.dtype),
    }


def _is_merged(folder: Path, facts: dict[str, str]) -> bool:
    file = folder / MERGED
    if not file.is_file():
        return False
    found: dict[str, str] = json.loads(file.read_text())
    return found.pop("weights_sha256") == stored_sha256(str(folder)) and found == facts


def merge_adapter(model: Any) -> Any:
    """Return the transformers model that computes what the adapted one does; the adapted one is used up.

    Embeddings that are tied are merged apart and then compared: peft adds what was learned to both ends, which in one
    matrix would count twice, and an adapter on one end alone unties them.
    """
    base = model.get_base_model()
    ends = [_weight_owner(base.get_input_embeddings()), _weight_owner(base.get_output_embeddings())]
    tied = ends[0].weight is ends[1].weight
    if tied:
        ends[1].weight = torch.nn.Parameter(ends[1].weight.detach().clone(), requires_grad=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(tied_target_modules|no longer tied)", category=UserWarning)
        merged = model.merge_and_unload()
    inputs, outputs = merged.get_input_embeddings(), merged.get_output_embeddings()
    if tied:
        same = torch.equal(inputs.weight, outputs.weight)
        merged.config.get_text_config().tie_word_embeddings = merged.config.tie_word_embeddings = same
        merged.all_tied_weights_keys = merged.get_expanded_tied_weights_keys(all_submodels=True)
        merged.tie_weights()
    return merged


def _weight_owner(module: Any) -> Any:
    """Return the module under peft's wrappers whose parameter the embedding is."""
    for inside in ("base_layer", "original_module"):
        if hasattr(module, inside):
            return _weight_owner(getattr(module, inside))
    return module
