"""A virtual environment for each peer, made where it is missing, because their pins exclude one another's and ours."""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

MEASURING = "psutil==7.2.2"
REQUIREMENTS = {
    "datasketch": ("datasketch==2.0.0", MEASURING),
    "text-dedup": ("text-dedup==0.4.1", MEASURING),
    "datatrove": ("datatrove[io,processing]==0.10.1", "spacy==3.8.18", "xxhash<4", MEASURING),
}
"""spaCy is datatrove's tokenizer of English, which its extras leave out; with xxhash 4 its hashes fail on text."""
NEWER_PYTHON = {"text-dedup": "3.12"}
INSTALLED = "installed.txt"


class UnavailableError(Exception):
    """Why a peer cannot run here."""


def python_of(peer: str, folder: Path) -> str:
    """Return the interpreter of a peer's environment; UnavailableError says why there is none."""
    if peer not in REQUIREMENTS:
        return sys.executable
    home, wanted = folder / peer, "\n".join(REQUIREMENTS[peer])
    python, mark = home / "bin" / "python", home / INSTALLED
    if not mark.is_file() or mark.read_text() != wanted:
        _create(home, NEWER_PYTHON.get(peer))
        _called([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[peer]])
        mark.write_text(wanted)
    return str(python)


def _create(home: Path, newer: str | None) -> None:
    if newer is None or sys.version_info >= tuple(map(int, newer.split("."))):
        venv.create(home, clear=True, with_pip=True)
        return
    for python in _candidates(f"python{newer}"):
        if (
            subprocess.run([python, "-m", "venv", "--clear", str(home)], capture_output=True, check=False).returncode
            == 0
        ):
            return
    raise UnavailableError(f"skipped: it needs Python {newer}, and no python{newer} on PATH makes an environment")


def _candidates(name: str) -> Iterator[str]:
    """List every file of this name on PATH: the first may be a shim without a version behind it."""
    for folder in os.get_exec_path():
        path = Path(folder) / name
        if os.access(path, os.X_OK):
            yield str(path)


def _called(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UnavailableError(f"skipped: {' '.join(command[1:4])} failed: {last}")
