"""Read another tool's configuration: YAML, or a command line out of a shell script."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.errors import RecipeError
from poise.recipe_yaml import AT_MOST_BYTES, read_scalar, read_yaml

SCRIPT = re.compile(r"[\w./-]*\.py")
COMMANDS = ("trl", "llamafactory-cli", "axolotl", "lmf")
DROPPED = re.compile(r"^(?:export|if|fi|then|cd|source|echo|set)\b")


@dataclass(frozen=True)
class Given:
    """What a configuration says: keys and values, and the line of the file each stands in."""

    name: str
    values: Mapping[str, Any]
    lines: Mapping[str, int]
    is_command: bool = False


def read(source: str) -> Given:
    """Read a file, or a command line that is given instead of one."""
    path = Path(source)
    if "--" in source and " " in source.strip() and not path.exists():
        return Given("the command line", command_values(source), {}, True)
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(AT_MOST_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"cannot read {source}: {error.strerror}\n    to do:  name a YAML file or a script") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{source} is not UTF-8 text\n    to do:  name a YAML file or a script") from None
    if len(text) > AT_MOST_BYTES:
        raise RecipeError(f"{source} is larger than {AT_MOST_BYTES:,} bytes, which no configuration is")
    if path.suffix in (".sh", ".slurm", ".bash") or text.startswith("#!") or _is_command(text):
        return Given(path.name, command_values(text), {}, True)
    found = read_yaml(text, path.name)
    values = dict(found.values)
    if "script" not in values and path.parent.name:
        values["script"] = _script_of(path)
    return Given(path.name, values, {key: found.keys[key,].line for key in found.values})


def command_values(text: str) -> dict[str, Any]:
    """Read the flags of the first command in a script that trains: `--key value`, `--key=value`, `--flag`."""
    for command in _commands(text):
        words = _words(command)
        script = next((word for word in words if SCRIPT.fullmatch(word)), "")
        known = next((words[index + 1] for index, word in enumerate(words[:-1]) if word in COMMANDS), "")
        if any(word.startswith("--") for word in words) and (script or known):
            start = words.index(script) if script else words.index(known)
            return {"script": script or known} | _flags(words[start + 1 :])
    raise RecipeError("there is no training command in it\n    to do:  give a line such as `python sft.py --key value`")


def _script_of(path: Path) -> str:
    """Guess the command of a YAML file from its folder or its name, as recipes are kept."""
    from poise.plan import find_verb

    try:
        return find_verb(path, None)
    except RecipeError:
        return ""


def _is_command(text: str) -> bool:
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    return bool(
        re.match(r"\s*(?:\w+=\S+\s+)*(?:python\d?|accelerate|torchrun|deepspeed|trl|llamafactory-cli|axolotl)\s", first)
    )


def _commands(text: str) -> list[str]:
    joined = re.sub(r"\\\s*\n", " ", text)
    lines = (line.strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#") and not DROPPED.match(line)]


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command, comments=True)
    except ValueError as error:
        raise RecipeError(f"the command cannot be read: {error}\n    to do:  close its quotes") from None


def _flags(words: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    key = ""
    for word in words:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            key = key.replace("-", "_")
            values[key] = read_scalar(value) if equals else True
        elif key:
            one = read_scalar(word)
            before = values[key]
            values[key] = one if before is True else [*(before if isinstance(before, list) else [before]), one]
    return values
