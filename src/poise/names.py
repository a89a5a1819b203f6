"""Find a module of a package by its file name, lazily, with near names on a miss."""

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType


def names_in(package: str) -> list[str]:
    """List the public modules of a package without importing any of them."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(package)
    files = (path for folder in spec.submodule_search_locations for path in Path(folder).glob("*.py"))
    return sorted(path.stem for path in files if not path.stem.startswith("_"))


def load_named(package: str, name: str) -> ModuleType:
    """Import `package.name`; a KeyError carries the sentence to show when there is no such file."""
    known = names_in(package)
    if name not in known:
        raise KeyError(f"there is no {package}.{name}{did_you_mean(name, known)}")
    return importlib.import_module(f"{package}.{name}")


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string where none is like it."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
