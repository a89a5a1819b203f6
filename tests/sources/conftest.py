"""Fixtures of the source tests: small files, the malformed corpus, and real data where it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import malformed


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
