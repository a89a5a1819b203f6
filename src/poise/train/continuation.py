"""Training goes on from an adapter: with it, with a new one on the merged model, or with a second one over it.

Whichever way, the policy at the start is the adapted model, so its reference is too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from poise.batch.tokens import PreparedTokenizer
from poise.errors import ModelError
from poise.models.open import empty_causal_lm, load_errors, open_config
from poise.recipe_sections import ModelSection
from poise.train.adapters import adapter_config, attach_adapter, lora_config, lora_dropout, vocabulary
from poise.train.merged import merge_adapter, merged_base
from poise.train.model import Hardware, LoadedModel, grow_vocabulary, load_model, set_stop_tokens
from poise.train.reference import weights_sha256
from poise.train.stacked import BENEATH, TRAINED, set_dropout, stack


@dataclass(frozen=True)
class Policy:
    """The model as training starts from it, with what is trained attached."""

    model: Any
    sha256: str
    """Hash of the weights, before anything new was attached."""
    base_sha256: str
    """Hash of the weights under the adapter as stored on disk; empty without one."""
    notes: tuple[str, ...] = ()
    """What was adjusted, a sentence each."""


def load_policy(section: ModelSection, hardware: Hardware, prepared: PreparedTokenizer, base_folder: Path) -> Policy:
    """Load what a recipe trains; `base_folder` is the place for a base that an adapter has to be merged into."""
    with load_errors(section.model_name_or_path):
        adapter = adapter_config(section.model_name_or_path, section.model_revision)
    if adapter is None or not section.use_peft:
        return _start(section, hardware, prepared)
    way, note = _choose(section, adapter, prepared)
    if way == "merge":
        return _on_merged(section, hardware, prepared, base_folder, note)
    if way == "stack":
        return _stacked(section, hardware, prepared, adapter, note)
    loaded = load_model(section, hardware)
    if "lora_dropout" in section.model_fields_set and section.lora_dropout != adapter["lora_dropout"]:
        set_dropout(loaded.model, TRAINED, section.lora_dropout)
        note = f"{note}, with the recipe's lora_dropout {section.lora_dropout}"
    set_stop_tokens(loaded.model.get_base_model(), prepared)
    return Policy(loaded.model, loaded.sha256, loaded.base_sha256, (note,))


def _start(section: ModelSection, hardware: Hardware, prepared: PreparedTokenizer) -> Policy:
    """Train everything, or a new adapter on a plain model; an adapter that is there is merged where all is trained."""
    from peft import PeftModel

    loaded = load_model(section, hardware)
    model, sha256 = loaded.model, loaded.sha256
    if isinstance(model, PeftModel):
        model = merge_adapter(model).requires_grad_(True)
    new_rows = grow_vocabulary(model, prepared)
    if new_rows or model is not loaded.model:
        sha256 = weights_sha256(model)
    set_stop_tokens(model, prepared)
    if not section.use_peft:
        return Policy(model, sha256, "")
    notes = _dropout_note(section)
    return Policy(attach_adapter(model, section, new_rows), sha256, loaded.base_sha256, notes)


def _on_merged(
    section: ModelSection, hardware: Hardware, prepared: PreparedTokenizer, folder: Path, note: str
) -> Policy:
    base = merged_base(section, hardware, prepared, folder)
    merged = section.model_copy(update={"model_name_or_path": str(base), "model_revision": "main"})
    policy = _start(merged, hardware, prepared)
    return replace(policy, notes=(f"{note}: {base}", *policy.notes))


def _stacked(
    section: ModelSection, hardware: Hardware, prepared: PreparedTokenizer, adapter: dict[str, Any], note: str
) -> Policy:
    loaded: LoadedModel = load_model(section, hardware, adapter_name=BENEATH)
    base = loaded.model.get_base_model()
    set_stop_tokens(base, prepared)
    if section.lora_target_modules == "all-linear":
        names = sorted(_linear_names(adapter))
        section = section.model_copy(update={"lora_target_modules": names})
    model = stack(loaded.model, lora_config(base, section, []))
    return Policy(model, loaded.sha256, loaded.base_sha256, (note, *_dropout_note(section)))


def _choose(
    section: ModelSection, adapter: dict[str, Any], prepared: PreparedTokenizer
) -> tuple[Literal["same", "merge", "stack"], str]:
    """Decide how training goes on from an adapter, and say it; ModelError where `same` contradicts the recipe."""
    name = section.model_name_or_path
    others = [*_new_tokens(section, adapter, prepared), *_differences(section, adapter)]
    asked = section.adapter_continuation
    if asked == "stack":
        _refuse_new_tokens(section, adapter, prepared)
        return asked, f"a second adapter is trained over {name}, which stays as it is; they are saved as one"
    if asked == "same" and others:
        raise ModelError(
            f"adapter_continuation: same, but {name} is an adapter with {'; '.join(others)}\n"
            "    why:    training goes on with that adapter, whose shape is fixed\n"
            "    to do:  remove these keys from the recipe, or adapter_continuation=merge for a new adapter on the "
            "merged model"
        )
    if asked == "merge":
        return asked, f"{name} is merged into its base, a new adapter is trained on it"
    if others:
        return "merge", f"{name} has {'; '.join(others)}: it is merged into its base, a new adapter is trained on it"
    return "same", f"training goes on with the adapter {name}"


def _differences(section: ModelSection, adapter: dict[str, Any]) -> Iterator[str]:
    """Yield where the recipe says another shape than the adapter has."""
    has = {
        "lora_r": adapter["r"],
        "lora_alpha": adapter["lora_alpha"],
        "lora_target_modules": adapter["target_modules"],
        "lora_target_parameters": adapter.get("target_parameters"),
        "lora_modules_to_save": adapter.get("modules_to_save"),
        "use_dora": adapter.get("use_dora", False),
        "use_rslora": adapter.get("use_rslora", False),
    }
    for key in has.keys() & section.model_fields_set:
        said = getattr(section, key)
        if said == "all-linear" and _covers(has[key], _linear_names(adapter)):
            continue
        if said is not None and _plain(said) != _plain(has[key]):
            yield f"{key} {_shown(has[key])}, the recipe says {_shown(said)}"


def _new_tokens(section: ModelSection, adapter: dict[str, Any], prepared: PreparedTokenizer) -> Iterator[str]:
    """Yield where the tokenizer has tokens that the adapted model has no rows for."""
    rows, tokens = vocabulary(section.model_name_or_path, section.model_revision, adapter), len(prepared.tokenizer)
    if tokens > rows:
        yield f"rows for {rows} tokens, the tokenizer has {tokens}"


def _refuse_new_tokens(section: ModelSection, adapter: dict[str, Any], prepared: PreparedTokenizer) -> None:
    for found in _new_tokens(section, adapter, prepared):
        raise ModelError(
            f"adapter_continuation: stack does not fit, {section.model_name_or_path} has {found}\n"
            "    why:    rows of new tokens replace rows of the embeddings, so two adapters cannot be saved as one\n"
            "    to do:  adapter_continuation=merge"
        )


def _linear_names(adapter: dict[str, Any]) -> set[str]:
    """Name every linear layer of an adapter's base but its head, which is what all-linear means to peft."""
    name = adapter["base_model_name_or_path"]
    with load_errors(name):
        config = open_config(name, adapter.get("revision") or "main")
    with torch.device("meta"):
        model = empty_causal_lm(config)
    head = model.get_output_embeddings()
    return {
        each for each, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head
    }


def _covers(targets: Any, names: set[str]) -> bool:
    if not isinstance(targets, list):
        return False
    return all(any(name == target or name.endswith(f".{target}") for target in targets) for name in names)


def _plain(value: Any) -> Any:
    return set(value or []) if isinstance(value, list | None) else value


def _shown(value: Any) -> str:
    return ", ".join(sorted(value)) if isinstance(value, list) else str(value)


def _dropout_note(section: ModelSection) -> tuple[str, ...]:
    if lora_dropout(section) == section.lora_dropout:
        return ()
    return ("lora_dropout is 0: whole parameters (lora_target_parameters) allow none",)
