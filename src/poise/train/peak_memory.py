"""The most memory that training held so far."""

import contextlib
from pathlib import Path

import psutil
import torch


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory held so far: on CUDA what torch allocated, else the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, StopIteration):  # Linux: getrusage would count the peak of the parent process too
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024
    with contextlib.suppress(ImportError):
        import resource
        import sys

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return psutil.Process().memory_info().rss
