"""Where poise keeps what it can compute again: log-probabilities, forecasts, sentence vectors."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return $POISE_CACHE, else the folder `poise` in the user's cache folder."""
    chosen = os.environ.get("POISE_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poise"
