"""What a process and its children take: processor seconds, wall time, peak memory.

Processor seconds are those of the process, of its children that ended, and of those that still run. Peak memory is the
most that the tree of processes held at one moment, looked at ten times a second from outside, or what the kernel
noted as the process's own peak, if that is more. Pages that two processes share count twice.
"""

import os
import platform
import resource
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from preference.measure import forget_peak, peak_bytes

SECONDS_BETWEEN_LOOKS = 0.1
"""A look takes some milliseconds of another core, the more processes the machine runs."""


def processor_seconds() -> float:
    """Return what this process and all that it started have used so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) + sum(map(_seconds_of, psutil.Process().children(True)))


def _seconds_of(child: psutil.Process) -> float:
    """Return what a running child and its own ended children used."""
    with suppress(psutil.Error):
        used = child.cpu_times()
        return used.user + used.system + used.children_user + used.children_system
    return 0.0


@dataclass
class Region:
    """A stretch of code and what it takes."""

    begun: float = 0.0
    """Seconds since the epoch, to find it among the looks from outside."""
    ended: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    """Of this process alone."""

    def __enter__(self) -> "Region":
        forget_peak("cpu")
        self.begun, self.cpu_seconds, self.seconds = time.time(), -processor_seconds(), -time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.seconds += time.perf_counter()
        self.cpu_seconds += processor_seconds()
        self.ended, self.peak_bytes = time.time(), peak_bytes("cpu")


@dataclass
class Watch:
    """Looks at the memory of a process and its children until it ends."""

    looks: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """Time and bytes."""

    def until_end(self, process: "subprocess.Popen[Any]") -> int:
        """Return the exit status."""
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(SECONDS_BETWEEN_LOOKS)
            with suppress(psutil.Error):
                self.looks.append((time.time(), tree_bytes(psutil.Process(process.pid))))

    def peak(self, begun: float, ended: float) -> int:
        """Return the most that was seen between two times."""
        return max((size for moment, size in self.looks if begun <= moment <= ended), default=0)


def tree_bytes(root: psutil.Process) -> int:
    """Return the resident memory of a process and all below it."""
    total = 0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def machine() -> dict[str, Any]:
    """Say what it was measured on."""
    return {"processor": _processor(), "cores": os.cpu_count(), "memory_bytes": psutil.virtual_memory().total}


def _processor() -> str:
    """Return the model's name, which `platform` does not know on Linux."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return platform.processor() or platform.machine()
