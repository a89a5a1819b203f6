"""What this machine has, as a value, so that the checks on it can be asked about any machine."""

import netrc
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CREDENTIALS: dict[str, tuple[str, ...]] = {
    "wandb": ("WANDB_API_KEY",),
    "comet_ml": ("COMET_API_KEY",),
    "neptune": ("NEPTUNE_API_TOKEN",),
    "clearml": ("CLEARML_API_ACCESS_KEY",),
}
"""Trackers that need an account, and the variables that hold its key."""
OFFLINE = {"WANDB_MODE": ("offline", "disabled", "dryrun"), "WANDB_DISABLED": ("true", "1")}
LOGINS = {
    "wandb": ("api.wandb.ai",),
}
"""Trackers that keep a login in ~/.netrc, under these hosts."""
FILES = {"comet_ml": ".comet.config", "clearml": "clearml.conf"}
"""And those that keep it in a file of the home folder."""


@dataclass(frozen=True)
class Machine:
    """Device, memory, disk and logins; None is unknown, and nothing is said of it."""

    device: str = "cpu"
    memory_bytes: int | None = None
    """Of the device: total on CUDA, what the system could still give on the CPU."""
    disk_free_bytes: int | None = None
    """Where output_dir is."""
    logged_in: frozenset[str] = frozenset(CREDENTIALS)
    """Trackers that would find credentials."""


def this_machine(device: str, output_dir: Path) -> Machine:
    """Look at the machine this runs on."""
    return Machine(device, _memory(device), _disk_free(output_dir), _logged_in(os.environ, Path.home()))


def _memory(device: str) -> int | None:
    if device == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)
    import psutil

    return int(psutil.virtual_memory().available)


def _disk_free(folder: Path) -> int | None:
    there = next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), None)
    return shutil.disk_usage(there).free if there else None


def _logged_in(environment: Mapping[str, str], home: Path) -> frozenset[str]:
    """Return the trackers whose credentials are in the environment or the home folder; no value is kept."""
    found = {tracker for tracker, names in CREDENTIALS.items() if any(environment.get(name) for name in names)}
    if any(environment.get(name, "").lower() in values for name, values in OFFLINE.items()):
        found.add("wandb")
    hosts = _netrc_hosts(home / ".netrc")
    found |= {tracker for tracker, names in LOGINS.items() if hosts & set(names)}
    found |= {tracker for tracker, file in FILES.items() if (home / file).is_file()}
    return frozenset(found)


def _netrc_hosts(file: Path) -> set[str]:
    try:
        return set(netrc.netrc(file).hosts)
    except (OSError, netrc.NetrcParseError):
        return set()
