"""A sealed folder is whole or not there, says which file was changed, and takes nothing of others with it."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from poise.sealed import SEAL, damage, discard, read_seal, replace_sealed, seal, stage, sweep


def sealed(parent: Path, name: str = "one", **files: str) -> Path:
    staging = stage(parent)
    for file, text in (files or {"a.txt": "alpha", "deep/b.txt": "beta"}).items():
        (staging / file).parent.mkdir(exist_ok=True)
        (staging / file).write_text(text)
    seal(staging, parent / name, {"step": 3})
    return parent / name


def test_a_sealed_folder_verifies_and_keeps_its_facts(tmp_path: Path) -> None:
    folder = sealed(tmp_path)
    assert damage(folder) is None
    assert read_seal(folder)["step"] == 3
    assert sorted(read_seal(folder)["files"]) == ["a.txt", "deep/b.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("name", ["a.txt", "deep/b.txt", SEAL])
@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "one bit", "link"])
def test_every_harm_to_every_file_is_found_and_named(name: str, harm: str, tmp_path: Path) -> None:
    folder = sealed(tmp_path)
    file = folder / name
    content = bytearray(file.read_bytes())
    if harm == "link":
        (tmp_path / "elsewhere").write_bytes(content)
    file.unlink()
    if harm == "empty":
        file.write_bytes(b"")
    elif harm == "cut":
        file.write_bytes(content[:-2])
    elif harm == "one bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif harm == "link" and name != SEAL:
        file.symlink_to(tmp_path / "elsewhere")
    told = damage(folder)
    assert told is not None
    assert name in told


def test_removing_leaves_files_that_the_seal_does_not_list(tmp_path: Path) -> None:
    folder = sealed(tmp_path)
    (folder / "mine.txt").write_text("mine")
    left = discard(folder)
    assert left is not None
    assert [path.name for path in left.iterdir()] == ["mine.txt"]
    assert discard(sealed(tmp_path, "two")) is None


def test_a_seal_that_points_outside_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    folder = sealed(tmp_path)
    body = {key: value for key, value in json.loads((folder / SEAL).read_text()).items() if key != "sha256"}
    body["files"]["../precious.txt"] = {"bytes": 8, "sha256": ""}
    import poise.sealed as module

    module._write_seal(folder / SEAL, body)
    assert damage(folder) == f"{SEAL} is damaged"
    discard(folder)
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_sweeping_takes_the_staging_of_the_dead_and_finishes_what_was_being_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    stale = tmp_path / f".staging-{socket.gethostname()}-{dead.pid}-1.00"
    (stale / "deep").mkdir(parents=True)
    own = stage(tmp_path)
    foreign = tmp_path / ".trash-of-somebody"
    foreign.mkdir()
    (foreign / "file").write_text("")
    sealed_trash = tmp_path / ".trash-half"
    (own / "a").write_text("a")
    seal(own, sealed_trash)
    (sealed_trash / "a").unlink()
    own = stage(tmp_path)
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([own.name, foreign.name])
    assert str(os.getpid()) in own.name


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = sealed(tmp_path)
    staging = stage(tmp_path)
    (staging / "new.txt").write_text("new")
    replace_sealed(staging, folder)
    assert damage(folder) is None
    assert sorted(path.name for path in folder.iterdir()) == ["new.txt", SEAL]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
