"""Start a verb in several processes by accelerate's own launcher, and end as they end.

    poise dpo recipe.yaml --launch FILE    is    accelerate launch --config_file FILE -m poise dpo recipe.yaml

with the processes' exit code as this one's, and time to save for processes that are stopped.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poise.errors import InterruptedRun, PoiseError, RecipeError, ResourceError
from poise.recipe import Recipe
from poise.train.layout import KINDS, layout_of, refuse_unsound

SHIPPED = "recipes/accelerate/ has ddp.yaml and fsdp2.yaml"
SECONDS_TO_SAVE = 900
"""What a stopped process has to finish its step and write a checkpoint, before it is killed; torch gives 30."""


def launch(file: Path, recipe: Recipe, arguments: Sequence[str]) -> None:
    """Run `python -m poise ARGUMENTS` in the processes that an accelerate configuration describes.

    Returns when all have ended well, else ends with the exit code of the first that failed. Raises RecipeError where
    the file is no configuration, or one that the recipe cannot be trained with; nothing is started then.
    """
    configuration = sound_configuration(file, recipe)
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("TORCHELASTIC_SHUTDOWN_TIMEOUT", str(SECONDS_TO_SAVE))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes have told it
    logging.getLogger("torch.distributed.run").setLevel(logging.CRITICAL)
    command = ["--config_file", str(file), *_processes(file, configuration), "-m", "poise", *arguments]
    try:
        launch_command(launch_command_parser().parse_args(command))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        _end(failure.exitcode, f"process {rank}")
    except subprocess.CalledProcessError as error:
        _end(error.returncode, "the process")
    except SignalException as error:
        raise StoppedWhileLaunched(f"stopped by {error.sigval.name}, and the processes with it") from None
    except (ImportError, OSError, ValueError, AssertionError) as error:
        raise _refused(file, str(error)) from error


class StoppedWhileLaunched(InterruptedRun):
    """A signal stopped the launcher, which passed it on and waited."""


def sound_configuration(file: Path, recipe: Recipe) -> dict[str, Any]:
    """Read an accelerate configuration; RecipeError where the recipe cannot be trained with it."""
    configuration = read_configuration(file)
    refuse_unsound(recipe, layout_of(configuration))
    return configuration


def process_count(configuration: Mapping[str, Any]) -> int:
    """Return how many processes a configuration starts: one for every GPU of this machine where it does not say."""
    said = int(configuration.get("num_processes", -1))
    if said != -1:
        return said
    import torch

    return torch.cuda.device_count()


def read_configuration(file: Path) -> dict[str, Any]:
    """Read an accelerate configuration; RecipeError where it is none, or of a kind that is not trained with here."""
    if not file.is_file():
        raise RecipeError(f"--launch {file}: there is no such file\n    to do:  {SHIPPED}")
    from accelerate.commands.config.config_args import load_config_from_file
    from yaml import YAMLError

    try:
        configuration = load_config_from_file(str(file)).to_dict()
    except (YAMLError, ValueError, TypeError, AttributeError, KeyError, UnicodeDecodeError) as error:
        raise _refused(file, str(error)) from error
    kind = str(configuration.get("distributed_type"))
    if kind not in KINDS:
        hint = " (MULTI_GPU starts processes on CPUs too, for a recipe with use_cpu)" if kind == "MULTI_CPU" else ""
        raise RecipeError(
            f"--launch {file}: distributed_type: {kind} is not trained with here{hint}\n"
            f"    to do:  one of {', '.join(KINDS)}; {SHIPPED}"
        )
    return configuration


def _processes(file: Path, configuration: Mapping[str, Any]) -> list[str]:
    """Say how many processes to start where the configuration does not."""
    if configuration.get("num_processes", -1) != -1:
        return []
    count = process_count(configuration)
    if not count:
        raise RecipeError(
            f"--launch {file}: it does not say num_processes, and there is no GPU here to start one for each\n"
            "    to do:  num_processes: 2 in a copy of the file, and use_cpu=true in the recipe"
        )
    return ["--num_processes", str(count)]


def _refused(file: Path, said: str) -> PoiseError:
    first = (said.strip() or "it is no mapping").splitlines()[0]
    return RecipeError(
        f"--launch {file}: accelerate cannot start from it: {first}\n"
        f"    to do:  write it with `accelerate config --config_file {file}`, or take one of poise's; {SHIPPED}"
    )


def _end(code: int, whose: str) -> None:
    """End with the code of a process that has told why; tell it of one that a signal ended."""
    if code < 0:
        raise ResourceError(
            f"{whose} was ended by {signal.Signals(-code).name}\n"
            "    why:    by the system for want of memory, or by hand\n"
            "    to do:  the same command with --resume goes on from the newest checkpoint"
        )
    sys.exit(code)
