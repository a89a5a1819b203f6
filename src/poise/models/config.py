"""Clean a model's configuration: keys that name code are dropped, values that would fetch or run it are refused.

A configuration is data about shapes. transformers has more than once let it choose code: auto_map, attention kernels
from the Hub (CVE-2026-4372), a nested trust_remote_code (CVE-2026-5241); peft imports modules that an adapter names.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from poise.models.files import elements, refused

CODE = frozenset((
    "auto_map", "auto_mapping", "custom_pipelines", "custom_generate", "trust_remote_code", "code_revision",
    "use_kernels", "kernel_config", "_commit_hash", "_name_or_path", "transformers_weights",
))  # fmt: skip
"""Dropped wherever they stand: they name code, or the place of it."""
KERNELS = re.compile(r"_?(?:attn|experts)_implementation\w*")
"""Dropped too: the recipe chooses what attention is computed by."""
LOADING = ("megatron_config", "corda_config", "eva_config", "loraga_config", "loftq_config", "lora_ga_config")
"""Keys of an adapter by which peft imports or opens what they name when it is made, and never when it is loaded."""
MODEL_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
COUNTED = re.compile(r"(?:\w+_)?n(?:um)?_(?:\w+_)?(?:layer|head|expert|block|group)s?(?:_\w+)?")
DEEPEST, LARGEST, MANY, SLACK = 16, 2**40, 2**16, 8
"""Nested mappings; a number in a configuration; heads or experts; elements packed into one by quantization."""


def clean(config: Mapping[str, Any], place: Path | str) -> tuple[dict[str, Any], list[str]]:
    """Return a configuration without keys that name code, and the names of those; ModelError where it would run it."""
    dropped: list[str] = []
    made = _clean(config, place, "", dropped)
    model_type = made.get("model_type")
    if not isinstance(model_type, str) or not MODEL_TYPE.fullmatch(model_type):
        raise refused(place, f"model_type is {str(model_type)[:80]!r}, which is no name of an architecture")
    return made, dropped


def check_keys(config: Mapping[str, Any], place: Path | str) -> None:
    """Refuse settings that would run code."""
    _clean(config, place, "", [])


def check_named_files(config: Mapping[str, Any], place: Path) -> None:
    """Refuse settings that would have a file read from elsewhere on this machine, as a vocabulary that is then shown.

    Configurations often hold paths of the machine that wrote them; those lead nowhere here.
    """
    for key, value in config.items():
        named = cast("list[Any]", value) if isinstance(value, list) else [value]
        for each in named if key.endswith(("_file", "_files")) else ():
            path = place.parent / str(each)
            if path.exists() and not path.resolve().is_relative_to(place.parent.resolve()):
                raise refused(place, f"{key} names {str(each)[:100]!r}, a file outside of its folder")


def clean_adapter(config: Mapping[str, Any], place: Path | str) -> dict[str, Any]:
    """Return an adapter's configuration without keys by which peft would import a module."""
    dropped: list[str] = []
    if config.get("megatron_config"):
        raise refused(place, f"megatron_config makes peft import {str(config.get('megatron_core'))[:80]!r}")
    made = _clean(config, place, "", dropped)
    base = made.get("base_model_name_or_path")
    if not isinstance(base, str) or not base or "\0" in base:
        raise refused(place, "it names no base model")
    return {key: None if key in LOADING else value for key, value in made.items()}


def check_size(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], place: Path | str) -> None:
    """Refuse a configuration that asks for much more than the weights hold: it would be built before it is noticed."""
    held = elements(shapes) * SLACK
    for part in (config, *(cast("dict[str, Any]", value) for value in config.values() if isinstance(value, dict))):
        for key in filter(COUNTED.fullmatch, map(str, part)):
            if _number(part, key) > MANY:
                raise refused(place, f"{key} is {part[key]:,}, more than any model has")
        layers = max(_number(part, key) for key in ("num_hidden_layers", "n_layer", "num_layers"))
        if layers > len(shapes):
            raise refused(place, f"it asks for {layers:,} layers, and its weights are {len(shapes):,} tensors")
        embeddings = _number(part, "vocab_size") * (_number(part, "hidden_size") or _number(part, "n_embd"))
        if embeddings > held:
            raise refused(place, f"it asks for embeddings of {embeddings:,} numbers, more than all its weights have")


def _clean(config: Mapping[str, Any], place: Path | str, where: str, dropped: list[str]) -> dict[str, Any]:
    if where.count(".") > DEEPEST:
        raise refused(place, f"its keys are nested over {DEEPEST} deep")
    made: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{where}{key}"
        if key.startswith("__"):
            raise refused(place, f"it sets {name}, a name of Python's own")
        if key == "trust_remote_code" and value:
            raise refused(place, f"{name} is {value!r}: it asks to run code from a repository")
        if KERNELS.fullmatch(key):
            _refuse_repository(value, name, place)
        if key in CODE or KERNELS.fullmatch(key):
            dropped.append(name)
        else:
            made[key] = _cleaned(value, place, name, dropped)
    return made


def _cleaned(value: Any, place: Path | str, name: str, dropped: list[str]) -> Any:
    if isinstance(value, dict):
        return _clean(cast("dict[str, Any]", value), place, f"{name}.", dropped)
    if isinstance(value, list):
        return [_cleaned(each, place, name, dropped) for each in cast("list[Any]", value)]
    if isinstance(value, int) and abs(value) > LARGEST and not name.endswith("model_max_length"):
        raise refused(place, f"{name} is a number of {value.bit_length()} bits, larger than anything a model has")
    return value


def _refuse_repository(value: Any, name: str, place: Path | str) -> None:
    """Refuse a kernel by its place on the Hub, whose code transformers would fetch and run."""
    named = cast("dict[str, Any]", value).values() if isinstance(value, dict) else [value]
    for each in named:
        if isinstance(each, str) and not re.fullmatch(r"\w{1,40}", each):
            raise refused(place, f"{name} is {each[:80]!r}: code that would be fetched from the Hub and run")


def _number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if type(value) is int and value > 0 else 0
