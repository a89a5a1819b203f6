"""The code that a stage runs, as a hash: of its module and of all of poise that this imports, read from the sources.

    steps/exact.py ── rows.py ── engine.py, texts.py, …       an edit of language.py remakes quality, not exact
    steps/tokens.py ── batch/tokens.py ── batch/templates/    so does one of a chat template tokens

Imports within functions count too, and files and folders that are no modules but lie beside one that names them. What
is loaded by a name in the recipe cannot be read from the sources, so the caller names it: a source's catalog file, a
step's.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import poise

ROOT = Path(poise.__file__).parent


def code_sha256(modules: Iterable[str]) -> str:
    """Hash modules and what they import: a stage made by other code is made again."""
    digest = hashlib.sha256()
    for name in sorted(closure(frozenset(modules))):
        for file in (_file(name), *read_beside(name)):
            digest.update(f"{file.relative_to(ROOT)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


@cache
def closure(modules: frozenset[str]) -> frozenset[str]:
    """Return modules of poise with all that they import of it, however far, and the packages they are in."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imported(name)
    return frozenset(found)


@cache
def imported(name: str) -> frozenset[str]:
    """Return the modules of poise that a module names in its imports, and the package it is in."""
    wanted = {name.rpartition(".")[0]} if "." in name else set[str]()
    for node in ast.walk(_parsed(name)):
        if isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            wanted |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.ImportFrom):
            raise ValueError(f"{name} imports by a relative name, which the hash of a stage's code does not follow")
    return frozenset(each for each in wanted if each.partition(".")[0] == "poise" and _file(each).is_file())


@cache
def read_beside(name: str) -> tuple[Path, ...]:
    """Return the files that are no modules, of which a module names the file or the folder: `templates`."""
    beside = [path for path in _file(name).parent.iterdir() if not _is_module(path)]
    named = {node.value for node in ast.walk(_parsed(name)) if isinstance(node, ast.Constant)} if beside else set[Any]()
    found = (each for path in beside if path.name in named for each in (path, *path.rglob("*")))
    return tuple(sorted(path for path in found if path.is_file()))


def _is_module(path: Path) -> bool:
    return path.suffix == ".py" or path.name == "__pycache__" or (path / "__init__.py").is_file()


def _parsed(name: str) -> ast.Module:
    return ast.parse(_file(name).read_bytes())


def _file(name: str) -> Path:
    path = ROOT.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
