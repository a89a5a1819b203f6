"""Start a worker for the rows of a data set or for one cell, and read what it wrote; nothing here imports torch."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apart import death, tried
from preference.plan import Cell, Settings


def prepare_apart(data: str, settings: Settings, folder: Path) -> dict[str, Any]:
    """Prepare a data set in a process of its own; returns its facts, or `failed` with the reason."""
    return _apart({"data": data, "settings": asdict(settings), "folder": str(folder)}, folder)


def measure_apart(cell: Cell, settings: Settings, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Measure a cell in a process of its own; returns its result, or `failed` with the reason."""
    return _apart({"cell": asdict(cell), "settings": asdict(settings), "folder": str(folder), "facts": facts}, folder)


def work(order_file: Path) -> None:
    """Do what the parent wrote down, in the worker."""
    order = json.loads(order_file.read_text())
    result = tried(lambda: _do(order))
    order_file.with_suffix(".result").write_text(json.dumps(result))


def _do(order: dict[str, Any]) -> dict[str, Any]:
    settings, folder = Settings(**order["settings"]), Path(order["folder"])
    if "data" in order:
        from preference.prepare import prepare

        return prepare(order["data"], settings, folder)
    from preference.job import Job
    from preference.worker import measure

    return measure(Job(Cell(**order["cell"]), folder, order["facts"], settings.device, settings.seed))


def _apart(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    file = folder / "order.json"
    file.write_text(json.dumps(order))
    result = file.with_suffix(".result")
    result.unlink(missing_ok=True)
    entry = Path(__file__).parent.parent / "bench_preference.py"
    command = [sys.executable, str(entry), "--worker", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "CI": "1"})
    found = json.loads(result.read_text()) if result.is_file() else {"failed": death(done.returncode)}
    if "failed" in found:
        sys.stderr.write(done.stderr[-4000:])
    return found
