"""Which process holds something: number, machine and start time, which tells it from a later one of the same number."""

import socket
from collections.abc import Mapping
from typing import Any

import psutil


def myself() -> dict[str, Any]:
    """Describe this process."""
    process = psutil.Process()
    return {"pid": process.pid, "host": socket.gethostname(), "since": process.create_time()}


def is_alive(holder: Mapping[str, Any]) -> bool:
    """Whether a described process still runs; of another machine's nothing is known, so it is taken to."""
    if not holder or holder["host"] != socket.gethostname():
        return bool(holder)
    try:
        process = psutil.Process(holder["pid"])
        return abs(process.create_time() - holder["since"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
