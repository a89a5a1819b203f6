"""Open what a model's repository holds, the one way in for training, evaluation, merging and chat.

    name -> folder, or the Hub's cache at one commit -> files looked at -> configuration cleaned -> transformers

Weights come from safetensors only. Code from a repository is never run, and no recipe can switch it on.
"""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from poise.errors import ModelError
from poise.models.config import check_keys, check_named_files, check_size, clean, clean_adapter
from poise.models.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    INDEX,
    SETTINGS,
    WEIGHTS,
    check_plain,
    check_settings,
    check_weights,
    read_json,
    refused,
)

ABOUT = ("README.md", "LICENSE*")
"""What tells a model's licence, fetched with its settings."""


def open_config(name: str, revision: str = "main") -> Any:
    """Return a model's configuration as transformers has it, without keys that name code."""
    return _named(_config(_settings(name, revision)), name)


def open_tokenizer(name: str, revision: str = "main") -> Any:
    """Return a model's tokenizer."""
    from transformers import AutoTokenizer

    folder = _settings(name, revision)
    return _named(AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False), name)


def open_causal_lm(name: str, revision: str = "main", **options: Any) -> Any:
    """Return a causal language model; `options` are transformers' own, as dtype and quantization_config."""
    from transformers import AutoModelForCausalLM

    folder, config = check_model(name, revision)
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(folder), config=config, trust_remote_code=False, use_safetensors=True, **options
    )
    _named(model.config, name)
    return _named(model, name)


def check_model(name: str, revision: str = "main") -> tuple[Path, Any]:
    """Look at a whole model's files without loading it; returns its folder and its configuration."""
    folder = _with_weights(_settings(name, revision), name, revision)
    if (folder / ADAPTER_CONFIG).exists():
        raise ModelError(f"{name} is an adapter, and a base is wanted here\n    to do:  poise merge {name} first")
    config = _config(folder)
    check_size(config.to_dict(), check_weights(folder), folder / CONFIG)
    return folder, config


def empty_causal_lm(config: Any) -> Any:
    """Build a model without weights from a configuration that `open_config` returned."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def open_adapter_config(name: str, revision: str = "main") -> dict[str, Any] | None:
    """Return an adapter's configuration without keys that name code; None where `name` is no adapter."""
    file = _settings(name, revision) / ADAPTER_CONFIG
    return clean_adapter(read_json(file), file) if file.is_file() else None


def open_adapter(base: Any, name: str, revision: str = "main", *, adapter_name: str, trainable: bool) -> Any:
    """Put an adapter on its base, which must be loaded."""
    from peft import PeftConfig, PeftModel

    folder = adapter_folder(name, revision)
    config = PeftConfig.from_peft_type(**(open_adapter_config(name, revision) or {}))
    return PeftModel.from_pretrained(
        base, str(folder), adapter_name=adapter_name, is_trainable=trainable, config=cast(Any, config)
    )


def adapter_folder(name: str, revision: str = "main") -> Path:
    """Return the folder of an adapter whose weights were looked at; peft would open pickles too."""
    folder = _with_weights(_settings(name, revision), name, revision)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise refused(folder, f"it has no {ADAPTER_WEIGHTS}", "save the adapter again with a recent peft")
    check_weights(folder)
    return folder


@contextlib.contextmanager
def load_errors(name: str) -> Generator[None]:
    """Say of what could not be loaded where it was looked for and what to do."""
    try:
        yield
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = "this folder" if Path(name).exists() else "no folder of that name, and the Hub gave nothing"
        raise ModelError(
            f"cannot load {name!r} ({where}): {first}\n"
            "    to do:  check the path or the Hub id and your connection; poise loads safetensors weights only"
        ) from error


def _config(folder: Path) -> Any:
    from transformers import CONFIG_MAPPING

    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds no {CONFIG}")
    values, _ = clean(read_json(file), file)
    kind = str(values["model_type"])
    if kind == "mistral" and "layer_types" in values:  # as transformers reads it
        kind = values["model_type"] = "ministral"
    if kind not in CONFIG_MAPPING:
        raise refused(
            file,
            f"transformers knows no architecture {kind!r}; its code would have to come from the repository",
            "use a model that transformers has, or a newer transformers",
        )
    return CONFIG_MAPPING[kind].from_dict(values)


def _settings(name: str, revision: str) -> Path:
    """Return the folder of a model with its settings in it, all looked at; it is downloaded where it is not there."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _fetched(name, revision, [*SETTINGS, *ABOUT])
    check_settings(folder)
    for file in (folder / each for each in (CONFIG, "tokenizer_config.json", "generation_config.json")):
        if file.is_file():
            values = read_json(file)
            check_keys(values, file)
            check_named_files(values, file)
    return folder


def _with_weights(folder: Path, name: str, revision: str) -> Path:
    """Return the folder with its weights in it."""
    if Path(name).expanduser().is_dir():
        return folder
    wanted = [WEIGHTS, ADAPTER_WEIGHTS]
    if (folder / INDEX).is_file():
        check_plain(folder, folder / INDEX)
        wanted = sorted({str(each) for each in dict(read_json(folder / INDEX).get("weight_map") or {}).values()})
    commit = folder.name if folder.parent.name == "snapshots" else revision
    return _fetched(name, commit, wanted)


def _fetched(name: str, revision: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except Exception as error:  # whatever the network or the Hub's client raises
        raise OSError(f"{type(error).__name__}: {error}") from error


def _named(found: Any, name: str) -> Any:
    """Let what was loaded from a folder say the name it was asked for by, which adapters and cards repeat."""
    found.name_or_path = name
    return found
