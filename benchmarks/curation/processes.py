"""Start a worker in its own environment, watch its memory, read what it wrote; nothing here imports poise."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apart import death, tried
from curation.measure import Watch
from curation.plan import Cell, Job

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""For the peers; of poise processor seconds are compared, however many threads use them."""
TOLD_CHARACTERS = 4000


def prepare_apart(job: Job, seed: int) -> dict[str, Any]:
    """Write the rows in a process of its own; returns what is told of them, or `failed` with the reason."""
    return _apart(job, {"seed": seed}, sys.executable, {})


def measure_apart(job: Job, python: str) -> dict[str, Any]:
    """Measure a cell in a process of its own; returns its result, or `failed` with the reason."""
    return _apart(job, {}, python, {} if job.cell.is_ours else ONE_THREAD)


def work(order_file: Path) -> None:
    """Do what the parent wrote down, in the worker."""
    order = json.loads(order_file.read_text())
    job = Job(Cell(**order["cell"]), Path(order["folder"]))
    order_file.with_suffix(".result").write_text(json.dumps(tried(lambda: _do(job, order))))


def _do(job: Job, order: dict[str, Any]) -> dict[str, Any]:
    if "seed" in order:
        from curation.prepare import prepare

        return prepare(job, order["seed"])
    from curation.worker import measure

    return measure(job)


def _apart(job: Job, more: dict[str, Any], python: str, environment: dict[str, str]) -> dict[str, Any]:
    file = job.folder / "order.json"
    file.write_text(json.dumps({"cell": asdict(job.cell), "folder": str(job.folder), **more}))
    entry = Path(__file__).parent.parent / "bench_curation.py"
    settings = {"HF_HOME": str(job.folder / "hf"), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "true", **environment}
    return watched([python, str(entry), "--worker", str(file)], file, settings)


def watched(command: list[str], order: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a worker that writes `order`.result, with the peak memory of all its processes between its own two times."""
    result, told, watch = order.with_suffix(".result"), order.with_suffix(".log"), Watch()
    result.unlink(missing_ok=True)
    with told.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        try:
            code = watch.until_end(process)
        finally:
            process.kill()
    found: dict[str, Any] = json.loads(result.read_text()) if result.is_file() else {"failed": death(code)}
    if "failed" in found:
        sys.stderr.write(told.read_text(errors="replace")[-TOLD_CHARACTERS:])
    elif "begun" in found:
        found["peak_bytes"] = max(found["peak_bytes"], watch.peak(found["begun"], found["ended"]))
    return found
