"""What workers in processes of their own have in common: an error is a result, and a death has a reason."""

import signal
import traceback
from collections.abc import Callable
from typing import Any


def tried(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Turn an error into its reason: a cell that cannot run is a result too."""
    try:
        return action()
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip() or "no message").splitlines()[0]
        return {"failed": f"{type(error).__name__}: {first}"}


def death(code: int) -> str:
    """Say how a process ended that wrote no result."""
    if code == -signal.SIGKILL:
        return "killed, most likely because memory ran out"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
