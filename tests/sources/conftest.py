"""Fixtures of the source tests: small files, the malformed corpus, and real data where it is."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load_malformed() -> ModuleType:
    """Import the corpus by its path, because tests are no package."""
    spec = importlib.util.spec_from_file_location("malformed_corpus", Path(__file__).with_name("malformed.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


malformed = load_malformed()


@pytest.fixture(params=list(malformed.FILES))
def malformed_case(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """One malformed file after another."""
    return malformed.write_case(tmp_path, request.param)


@pytest.fixture
def malformed_cases(tmp_path: Path) -> Any:
    """All malformed files at once."""
    return malformed.write_malformed(tmp_path)


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """Write rows as JSON lines; returns the path."""

    def write(*rows: object, name: str = "data.jsonl") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def shared_data() -> Path:
    """Real data beside the repository, where it is."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data is not at {folder}")
    return folder
