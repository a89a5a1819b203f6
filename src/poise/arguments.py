"""The words after a command: a recipe's path, and recipe keys in each way that people write them.

poise dpo recipe.yaml learning_rate=1e-6
poise dpo --config recipe.yaml --learning_rate=1e-6 --beta 0.1 --use_peft --lora_target_modules q_proj v_proj
"""

import re
from collections.abc import Sequence
from pathlib import Path

from poise.errors import RecipeError
from poise.names import did_you_mean

OPTIONS = [
    "--resume",
    "--overwrite",
    "--json",
    "--verb",
    "--row",
    "--no-data",
    "--probe",
    "--all-rows",
    "--from",
    "--dry-run",
    "--launch",
    "--help",
]
"""Of the commands that take recipe keys, where click leaves unknown ones alone."""
NEAR = 0.8
"""How like an option a word is that was meant for one; no recipe key is."""
NUMBER = re.compile(r"-\.?\d")


def split_arguments(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Tell the recipe's path from its overrides, which are returned as `key=value` or `--key=value`.

    `--key` takes the words up to the next option, key=value or YAML file; several are a list, none is `true`.
    """
    paths: list[str] = []
    overrides: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if "=" in word:
            overrides.append(word)
        elif not word.startswith("-"):
            paths.append(word)
        elif word == "--config":
            paths.append(words.pop(0) if words else "")
        else:
            _refuse_misspelt(word)
            values: list[str] = []
            while words and _is_value(words[0]):
                values.append(words.pop(0))
            overrides.append(f"{word}={','.join(values) or 'true'}")
    if len(paths) > 1:
        raise RecipeError(f"one recipe at a time, got {', '.join(paths)}; everything else is key=value")
    return (Path(paths[0]) if paths else None), overrides


def _is_value(word: str) -> bool:
    is_option = word.startswith("-") and not NUMBER.match(word)
    return not is_option and "=" not in word and Path(word).suffix not in (".yaml", ".yml")


def _refuse_misspelt(word: str) -> None:
    near = did_you_mean(word, OPTIONS, cutoff=NEAR)
    if near or not word.startswith("--"):
        raise RecipeError(f"unknown option {word}{near}\n    to do:  recipe keys are written --key=VALUE or key=VALUE")
