"""Data are read and rendered once on a machine, before its processes meet, and mapped into memory by all of them.

No process group waits meanwhile, so that no timeout of one bounds how long rendering may take; and tokens are in memory
once, however many GPUs there are. What only the main process tells or writes (Examples, lengths, drops) stays with the
process that rendered.
"""

import atexit
import itertools
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from poise.cache import cache_folder
from poise.errors import ResourceError, StoppedElsewhere
from poise.holder import is_alive, myself
from poise.recipe import Recipe
from poise.run import write_whole
from poise.train.data import Loaded, Rendered, templates_of
from poise.train.prepare import Prepared, prepare, renderer_of
from poise.train.rows_file import StoredRows, write_rows

LOCAL_RANKS = (
    "LOCAL_RANK",
    "SLURM_LOCALID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
)
SIDES = ("train", "held_out")
SECONDS_BETWEEN_LOOKS = 0.1
_TIMES = itertools.count()
"""How often this process has rendered: as often as the others."""
WRITER, READY, FAILED = "writer.json", "ready.json", "failed.json"


@dataclass(frozen=True)
class RenderedOnce:
    """What this machine's processes share."""

    prepared: Prepared
    facts: dict[str, Any]
    """The manifest's `data` block, counted where the rows were rendered."""
    folder: Path | None
    """Where the rows are, until all have opened them; None in the processes that only read."""

    def forget(self) -> None:
        """Remove the files; who has opened them keeps them."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def render_once(recipe: Recipe) -> RenderedOnce:
    """Render in the first process of this machine, and wait for it in the others; call it before the processes meet.

    Where it fails its error is raised there, StoppedElsewhere in the others.
    """
    local = next((int(os.environ[name]) for name in LOCAL_RANKS if name in os.environ), None)
    folder = _folder()
    if local is None:  # a launcher that does not say who is the first here: each renders for itself
        return _write(recipe, folder.with_name(f"{folder.name}-{os.getpid()}"))
    return _read(recipe, folder) if local else _write(recipe, folder)


def _folder() -> Path:
    """Name what the processes of one launch on one machine share: their launcher, and how often it began again."""
    launcher = psutil.Process(os.getppid())
    which = f"{launcher.pid}-{int(launcher.create_time())}"
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return cache_folder() / "rows" / f"{socket.gethostname()}-{which}-{again}-{next(_TIMES)}"


def _write(recipe: Recipe, folder: Path) -> RenderedOnce:
    _remove_left_over(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)
    write_whole(folder / WRITER, json.dumps(myself()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        prepared = prepare(recipe)
        facts = prepared.rendered.facts()
        _store(folder, prepared, facts)
    except Exception as error:
        _tell_failure(folder, error)
        raise
    return RenderedOnce(replace(prepared, rendered=_opened(folder, prepared.rendered)), facts, folder)


def _store(folder: Path, prepared: Prepared, facts: Mapping[str, Any]) -> None:
    templates = templates_of([*prepared.loaded.train, *prepared.loaded.held_out])
    try:
        for side in SIDES:
            write_rows(folder / side, getattr(prepared.rendered, side))
        write_whole(folder / READY, json.dumps({"facts": facts, "templates": templates}))
    except OSError as error:
        raise ResourceError(
            f"{folder}: rendered rows cannot be written: {error.strerror or error}\n"
            "    to do:  make room there, or let POISE_CACHE name another folder"
        ) from error


def _tell_failure(folder: Path, error: Exception) -> None:
    try:
        told = {"message": str(error), "exit_code": getattr(error, "exit_code", 1)}
        write_whole(folder / FAILED, json.dumps(told))
    except OSError:  # a full disk: the others see that this process has ended
        pass


def _read(recipe: Recipe, folder: Path) -> RenderedOnce:
    told = _awaited(folder)
    renderer = renderer_of(recipe, told["templates"])
    rendered = _opened(folder, Rendered([], [], []))
    return RenderedOnce(Prepared(Loaded(), rendered, renderer, renderer.prepared), dict(told["facts"]), None)


def _awaited(folder: Path) -> Mapping[str, Any]:
    """Wait until rows are there; no longer than the process that writes them and the launcher are."""
    launcher, writer = os.getppid(), None
    while os.getppid() == launcher:
        for name in (READY, FAILED, WRITER):
            text = _text(folder / name)
            if text is None:
                continue
            if name == READY:
                return json.loads(text)
            if name == FAILED:
                failure = json.loads(text)
                raise StoppedElsewhere(failure["message"], failure["exit_code"])
            writer = json.loads(text)
        if writer is not None and not is_alive(writer):
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise StoppedElsewhere("the process that renders the rows of this machine has ended", ResourceError.exit_code)


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _opened(folder: Path, rendered: Rendered) -> Rendered:
    train, held_out = (StoredRows(folder / side) for side in SIDES)
    return replace(rendered, train=train, held_out=held_out)


def _remove_left_over(parent: Path) -> None:
    """Remove what processes of this machine left that were killed before all had opened their rows."""
    for folder in parent.glob(f"{socket.gethostname()}-*"):
        text = _text(folder / WRITER)
        if text is not None and not is_alive(json.loads(text)):
            shutil.rmtree(folder, ignore_errors=True)
