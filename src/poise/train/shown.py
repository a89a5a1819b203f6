"""The progress display of a training run, fed from the Trainer's log lines."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from transformers import Trainer, TrainerCallback

from poise import progress

SHOWN = {
    "loss": "loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "tokens_per_second": "tok/s",
}
"""Metrics beside the progress bar, and what they are called there."""


class ShowProgress(TrainerCallback):
    """Feed the progress display from the Trainer's log lines."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self._facts: dict[str, object] = {}
        self._context: Any = None
        self._stage: progress.Stage | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the display."""
        if state.is_world_process_zero:
            self._context = progress.stage(self.verb, state.max_steps)
            self._stage = self._context.__enter__()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Keep the newest numbers."""
        logs = logs or {}
        self._facts |= {shown: float(logs[name]) for name, shown in SHOWN.items() if name in logs}
        if self._stage and "loss" in logs:
            self._stage.advance(state.global_step, **self._facts)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Move the bar; the last step is always logged, since the verdict quotes it."""
        if self._stage and progress.is_interactive():
            self._stage.advance(state.global_step, **self._facts)
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the display."""
        self.close()

    def close(self) -> None:
        """Take the bar off, if there is one."""
        if self._context:
            self._context.__exit__(None, None, None)
            self._context = self._stage = None


@contextmanager
def display_closed(trainer: Trainer) -> Generator[None]:
    """Take the bar off the terminal when training ends in an error."""
    try:
        yield
    finally:
        close_display(trainer)


def close_display(trainer: Trainer) -> None:
    """Take the bar off, if there is one."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, ShowProgress):
            callback.close()
