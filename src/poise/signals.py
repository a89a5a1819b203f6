"""What Ctrl-C and SIGTERM do where there is nothing to finish: end at once, with the code that says run it again."""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedAtOnce(KeyboardInterrupt):
    """Stopped by a signal outside the training loop."""

    exit_code = 75


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Generator[None]:
    """Handle both signals by `handler` inside the block; in another thread than the main one nothing changes."""
    try:
        before = {number: signal.signal(number, handler) for number in SIGNALS}
    except ValueError:  # not the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def stopping_at_once() -> Generator[None]:
    """Raise StoppedAtOnce inside the block when a signal comes."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedAtOnce(
            f"stopped by {signal.Signals(number).name} outside the training loop; what was saved is whole\n"
            "    to do:  run the same command again, with --resume where training had begun"
        )

    with handled(stop):
        yield
