"""Trackers see what metrics.jsonl has, and no secret: their settings for the time of a training, arguments redacted."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from netrc import NetrcParseError, netrc
from typing import Any
from urllib.parse import urlsplit

from transformers import TrainingArguments

from poise import progress
from poise.recipe import Recipe
from poise.run import Run
from poise.secrets import redacted

FOLDER = "trackers"
"""Folder of a run for the trackers that write files."""
WANDB_QUIET = {
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_CONSOLE": "off",
    "WANDB__DISABLE_META": "true",
}
"""wandb 0.31 else keeps the command line, what is printed, the code's changes and its remote, where tokens stand."""
WANDB_KEYS = {"WANDB_PROJECT": "wandb_project", "WANDB_ENTITY": "wandb_entity", "WANDB_RUN_GROUP": "wandb_run_group"}


class ToldArguments(TrainingArguments):
    """TrainingArguments that tell trackers no secret; transformers itself hides `hub_token` alone."""

    def to_dict(self) -> dict[str, Any]:
        """Return what trackers keep as the configuration."""
        return redacted(super().to_dict())


@contextmanager
def tracking(recipe: Recipe, run: Run) -> Generator[None]:
    """Give the recipe's trackers their settings while a trainer lives; variables that are set win.

    Ends what a tracker has open, so that a second training in the same process starts its own.
    """
    names: list[str] = recipe.training["report_to"]
    settings = {name: value for name, value in _settings(recipe, run, names).items() if name not in os.environ}
    os.environ.update(settings)
    try:
        yield
    finally:
        if "wandb" in names:
            import wandb

            wandb.finish()
        for name in settings:
            os.environ.pop(name, None)


def _settings(recipe: Recipe, run: Run, names: list[str]) -> Mapping[str, str]:
    settings: dict[str, str] = {}
    folder = run.path / FOLDER
    if "tensorboard" in names:
        settings["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    if "wandb" in names:
        folder.mkdir(parents=True, exist_ok=True)  # wandb writes to /tmp where the folder is missing
        settings |= WANDB_QUIET | {"WANDB_DIR": str(folder)}
        told = {name: getattr(recipe.poise, key) for name, key in WANDB_KEYS.items()}
        settings |= {name: redacted(value) for name, value in told.items() if value is not None}
        if "WANDB_MODE" not in os.environ and not _wandb_login():
            settings["WANDB_MODE"] = "offline"
            progress.say(f"note: no login of wandb is here, so it writes offline; later: wandb sync {folder}/wandb/*")
    return settings


def _wandb_login() -> bool:
    """Whether wandb could log in without asking."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        remembered = netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, NetrcParseError):
        remembered = None
    return bool(remembered or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"))
