"""One cell in a process of its own: imports, the machine's rate, the epoch, what it took."""

from typing import Any

from preference import arms_poise, arms_trl
from preference.job import Job
from preference.measure import forget_peak, peak_bytes, product_rate, resident_bytes, useful_flops


def measure(job: Job) -> dict[str, Any]:
    """Return everything that is measured of a cell."""
    import torch

    arm = arms_poise if job.cell.arm.startswith("poise") else arms_trl
    arm.load(job)
    rate = product_rate(job.sizes, job.work, job.cell.dtype, job.device)
    forget_peak(job.device)
    before = resident_bytes(job.device)
    outcome = arm.run(job)
    peak = peak_bytes(job.device)
    flops = useful_flops(job.sizes, job.layout, job.cell.tuning)
    return {
        **outcome.as_json(),
        "peak_bytes": peak,
        "growth_bytes": peak - before,
        "trained_tokens_per_second": job.layout.trained / outcome.seconds,
        "processed_tokens_per_second": outcome.tokens / outcome.seconds,
        "useful_flops": flops,
        "product_rate": rate,
        "share": flops / outcome.step_seconds / rate,
        "threads": torch.get_num_threads(),
    }
