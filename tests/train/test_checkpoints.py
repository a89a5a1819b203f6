"""A checkpoint that was harmed is found out and passed over; a disk that fails costs no checkpoint that is there."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from poise.errors import ResourceError
from poise.run import Run
from poise.sealed import damage
from poise.train.checkpoint import Checkpoint, newest_checkpoint, rotate

STEPS = {"per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}
HARMS = ("missing", "empty", "cut", "one bit", "of another run")
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd")


def newest(folder: Path) -> Checkpoint:
    found = newest_checkpoint(folder)
    assert found is not None
    return found


def harm(file: Path, how: str, other: Path) -> None:
    content = bytearray(file.read_bytes())
    file.unlink()
    if how == "empty":
        file.write_bytes(b"")
    elif how == "cut":
        file.write_bytes(content[: len(content) * 2 // 3])
    elif how == "one bit":
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    elif how == "of another run":
        shutil.copy(other, file)


def test_every_harm_to_every_file_of_a_checkpoint_is_told_and_the_one_before_taken(
    tiny: Any, train_run: Any, tmp_path: Path, weights: Any, capfd: Any
) -> None:
    rows = tiny.uneven_rows(16)
    run = train_run("sft", rows, **STEPS)
    other = train_run("sft", rows, "other", **STEPS, seed=7)
    folder = run.path / "checkpoints"
    whole = weights(run.path / "model")
    files = sorted(path.relative_to(folder / "checkpoint-4") for path in (folder / "checkpoint-4").iterdir())
    assert len(files) >= 12
    shutil.copytree(folder / "checkpoint-4", tmp_path / "good")
    tried = 0
    for file in files:
        for how in HARMS:
            theirs = other.path / "checkpoints" / "checkpoint-4" / file
            if how == "of another run" and theirs.read_bytes() == (folder / "checkpoint-4" / file).read_bytes():
                continue  # tokenizer and configuration are the same files
            if how == "of another run" and file.name == "sealed.json":
                theirs = folder / "checkpoint-2" / file
            harm(folder / "checkpoint-4" / file, how, theirs)
            capfd.readouterr()
            assert newest(folder).path.name == "checkpoint-2", f"{how} {file}"
            told = capfd.readouterr().err.splitlines()
            named = "sealed.json" if file.name == "sealed.json" and how != "of another run" else file.name
            assert len(told) == 1 and "checkpoint-4 is passed over" in told[0], told
            assert named in told[0] or file.name == "sealed.json"
            shutil.rmtree(folder / "checkpoint-4")
            shutil.copytree(tmp_path / "good", folder / "checkpoint-4")
            tried += 1
    assert tried >= 50
    harm(folder / "checkpoint-4" / "optimizer.0.safetensors", "one bit", tmp_path)
    train_run("sft", rows, resume=True, **STEPS)
    again = weights(run.path / "model")
    assert all((whole[name] == again[name]).all() for name in whole)
    assert damage(folder / "checkpoint-4") is None


def test_no_file_of_a_run_is_a_pickle(tiny: Any, train_run: Any) -> None:
    run = train_run("sft", tiny.uneven_rows(8), **STEPS)
    suffixes = {path.suffix for path in run.path.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".jsonl", ".safetensors", ".yaml", ".jinja", ".html"}


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_every_optimizer_goes_on_bitwise(optim: str, tiny: Any, train_run: Any, weights: Any) -> None:
    rows = tiny.uneven_rows(8)
    options = STEPS | {"optim": optim, "save_steps": 1, "lr_scheduler_type": "linear"}
    run = train_run("sft", rows, **options)
    whole = weights(run.path / "model")
    shutil.rmtree(run.path / "checkpoints" / "checkpoint-2")
    train_run("sft", rows, resume=True, **options)
    again = weights(run.path / "model")
    assert all((whole[name] == again[name]).all() for name in whole)


def test_rotation_keeps_the_best_and_what_is_not_ours(tiny: Any, train_run: Any) -> None:
    run = train_run("sft", tiny.uneven_rows(16), **STEPS | {"save_steps": 1, "save_total_limit": 9})
    folder = run.path / "checkpoints"
    (folder / "checkpoint-1" / "mine.txt").write_text("mine")
    (folder / "checkpoint-0").mkdir()
    (folder / "checkpoint-0" / "theirs.bin").write_text("theirs")
    rotate(folder, 1, str(folder / "checkpoint-2"))
    names = {path.name for path in folder.iterdir()}
    assert {"checkpoint-0", "checkpoint-2", "checkpoint-4"} <= names
    assert not names & {"checkpoint-1", "checkpoint-3"}
    assert [path.name for path in folder.glob(".trash-checkpoint-1-*/*")] == ["mine.txt"]
    assert (folder / "checkpoint-0" / "theirs.bin").read_text() == "theirs"


def test_a_foreign_folder_of_the_same_name_is_renamed_and_not_written_into(tiny: Any, train_run: Any) -> None:
    steps = STEPS | {"save_steps": 1}
    run = train_run("sft", tiny.uneven_rows(8), **steps)
    folder = run.path / "checkpoints"
    shutil.rmtree(folder / "checkpoint-2")
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / "theirs.bin").write_text("theirs")
    train_run("sft", tiny.uneven_rows(8), resume=True, **steps)
    assert damage(folder / "checkpoint-2") is None
    assert [path.read_text() for path in folder.glob("set-aside-checkpoint-2-*/*")] == ["theirs"]


def test_a_run_that_will_not_fit_is_refused_before_its_first_step(
    tiny: Any, train_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poise.train.space.free_bytes", lambda folder: 1_000_000)
    with pytest.raises(
        ResourceError, match=r"1,000,000 bytes free, and this run needs [\d,]+\n.*checkpoints"
    ) as caught:
        train_run("sft", tiny.uneven_rows(16), **STEPS)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "run" / "checkpoints").exists()
    train_run("sft", tiny.uneven_rows(16), save_strategy="no", max_steps=1)


@pytest.fixture
def begun(forks: Any, tiny: Any, base: Path, tmp_path: Path) -> Any:
    """Make runs that have come to a checkpoint of step 2 and go on under a disk that fails."""
    if not forks.has_faults:
        pytest.skip("no C compiler to build the faults with")
    data = tiny.write_rows(tmp_path / "rows.jsonl", tiny.uneven_rows(16))

    def overrides(name: str) -> list[str]:
        return tiny.settings(model_name_or_path=base, dataset_name=data, output_dir=tmp_path / name, **STEPS)

    def run(name: str, *flags: str, **fault: Any) -> tuple[int, str]:
        log = tmp_path / f"{name}-{len(list(tmp_path.glob('*.log')))}.log"
        code = forks.run("sft", overrides(name), *flags, log=log, **fault)
        return code, log.read_text()

    assert run("whole")[0] == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "checkpoint-4")
    shutil.rmtree(tmp_path / "half" / "model")

    def go_on(name: str, **fault: Any) -> tuple[int, str]:
        shutil.copytree(tmp_path / "half", tmp_path / name)
        return run(name, "--resume", folder=str(tmp_path / name), **fault)

    go_on.again = lambda name: run(name, "--resume")  # type: ignore[attr-defined]
    return go_on


def assert_sound(folder: Path, whole: Path, weights: Any, begun: Any) -> None:
    """The newest checkpoint verifies, none that is seen is partial, and the run goes on to the same weights."""
    seen = list((folder / "checkpoints").glob("checkpoint-*"))
    assert seen and all(damage(path) is None for path in seen)
    code, told = begun.again(folder.name)
    assert code == 0, told
    ours, theirs = weights(folder / "model"), weights(whole / "model")
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert not list(folder.rglob(".staging-*")) + list(folder.rglob(".trash-*"))


@pytest.mark.parametrize("sizes", [pytest.param(2, id="2"), pytest.param(20, id="20", marks=pytest.mark.slow)])
@pytest.mark.timeout(3000)
def test_a_disk_that_fills_up_costs_no_checkpoint(sizes: int, begun: Any, tmp_path: Path, weights: Any) -> None:
    written = (tmp_path / "whole" / "checkpoints" / "checkpoint-4", tmp_path / "whole" / "model")
    most = sum(path.stat().st_size for folder in written for path in folder.iterdir())
    for index in range(sizes):
        name = f"full-{index}"
        code, told = begun(name, room=most * (2 * index + 1) // (2 * sizes))
        assert code == 4 and "No space left" in told, told
        assert "Traceback" not in told
        assert_sound(tmp_path / name, tmp_path / "whole", weights, begun)


@pytest.mark.parametrize("last", [pytest.param(4, id="4"), pytest.param(60, id="60", marks=pytest.mark.slow)])
@pytest.mark.timeout(3000)
def test_the_nth_call_to_the_disk_may_fail(last: int, begun: Any, tmp_path: Path, weights: Any) -> None:
    counted = tmp_path / "calls"
    assert begun("counted", counted=str(counted))[0] == 0
    calls = int(counted.read_text())
    for index in range(last):
        nth = index + 1 if last >= calls else 1 + index * calls // last + calls // (2 * last)
        code, told = begun(f"failed-{index}", nth=nth, what=(errno.ENOSPC, errno.EIO, errno.EACCES)[index % 3])
        assert code in (0, 2, 4), f"call {nth}: {told}"
        assert "Traceback" not in told
        assert_sound(tmp_path / f"failed-{index}", tmp_path / "whole", weights, begun)
    assert Run(tmp_path / "whole").manifest["status"] == "done"
