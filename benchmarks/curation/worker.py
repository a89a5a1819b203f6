"""One cell in a process of its own: imports, the arm under the clock, what it found."""

import json
from importlib import import_module
from importlib.metadata import version
from typing import Any

from curation.measure import Region
from curation.plan import Job
from curation.score import Planted, scored

MODULES = {"bagel": "bagel", "datasketch": "datasketch", "text-dedup": "text_dedup", "datatrove": "datatrove"}


def measure(job: Job) -> dict[str, Any]:
    """Return everything that is measured of a cell."""
    arm = import_module(f"curation.arms_{MODULES.get(job.cell.arm, 'poise')}")
    job.work.mkdir()
    ready = arm.load(job)
    with Region() as region:
        done = arm.run(job, ready)
    found = arm.found(job, done)
    return {
        **vars(region),
        "rows_per_cpu_second": job.cell.rows / region.cpu_seconds,
        **scored(found, Planted(**json.loads(job.planted.read_text()))),
        "versions": {name: version(name) for name in arm.PACKAGES},
    }
