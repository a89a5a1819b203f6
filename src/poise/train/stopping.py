"""Stop gently: a signal lets the running step end, saves, and ends the run so that it can go on."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from poise import progress
from poise.signals import handled
from poise.train import processes


class StopGently(TrainerCallback):
    """Save and stop at the next step boundary once a signal came, in whichever process."""

    signal: str | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Ask the Trainer to save and stop."""
        if self.was_asked(args.device):
            control.should_save = control.should_training_stop = True
        return control

    def was_asked(self, device: torch.device) -> bool:
        """Whether a signal came to any process; all ask at the same place."""
        number = processes.highest(signal.Signals[self.signal] if self.signal else 0, device)
        if number:
            self.signal = signal.Signals(number).name
        return bool(number)


@contextmanager
def stop_signals(trainer: Trainer) -> Generator[StopGently]:
    """Turn the first SIGINT or SIGTERM into a gentle stop; a second one ends the process at once."""
    gently = next(callback for callback in trainer.callback_handler.callbacks if isinstance(callback, StopGently))

    def handle(number: int, frame: FrameType | None) -> None:
        if gently.signal is not None:
            raise KeyboardInterrupt
        gently.signal = signal.Signals(number).name
        progress.say(f"{gently.signal}: finishing this step, then saving; once more to stop at once without saving")

    with handled(handle):
        yield gently
