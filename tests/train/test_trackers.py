"""Trackers get what metrics.jsonl has, through transformers' report_to, and no secret; each is skipped where absent."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_inTheEnvironment1234",
}
NAMED = "hf_inTheRunName12345"


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed; it is in the extra `track`")


@pytest.fixture
def track(train_run: Callable[..., Any], tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train two steps with a tracker, secrets all around; returns the Run."""

    def track(tracker: str, **values: Any) -> Any:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("WANDB_MODE", "offline")
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        chosen = {"report_to": tracker, "max_steps": 2, "run_name": f"run {NAMED}"}
        return train_run("sft", tiny.copy_rows()[:8], **chosen | values)

    return track


def assert_no_secret(folder: Path) -> None:
    """Read every byte that was written and look for what must not be there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files, "the tracker wrote something"
    for secret in (*SECRETS.values(), NAMED):
        assert not [path for path in files if secret.encode() in path.read_bytes()], secret


def test_nothing_is_tracked_unless_asked(train_run: Callable[..., Any], tiny: Any) -> None:
    run = train_run("sft", tiny.copy_rows()[:8], max_steps=1)
    assert not (run.path / "trackers").exists()
    assert run.metrics()


def test_tensorboard_has_the_losses_of_metrics_jsonl(track: Any) -> None:
    needs("tensorboard")
    run = track("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert_no_secret(run.path / "trackers")
    events = EventAccumulator(str(run.path / "trackers" / "tensorboard")).Reload()
    tracked = [event.value for event in events.Scalars("train/loss")]
    assert tracked == pytest.approx([line["loss"] for line in run.metrics()], rel=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_offline_writes_no_secret_and_ends_with_the_run(track: Any) -> None:
    needs("wandb")
    run = track("wandb", wandb_project="mine", wandb_run_group="evenings")
    import wandb

    assert wandb.run is None
    assert not {"WANDB_PROJECT", "WANDB_DIR", "WANDB_CONSOLE"} & os.environ.keys()
    assert_no_secret(run.path / "trackers")
    (written,) = (run.path / "trackers").rglob("*.wandb")
    assert all(word in written.read_bytes() for word in (b"mine", b"evenings", b"train/loss"))
    assert len(run.metrics()) == 2


def test_wandb_without_a_login_is_offline_and_a_recipe_says_so(
    train_run: Callable[..., Any], tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("wandb")
    from poise.run import Run
    from poise.train.trackers import tracking

    recipe = tiny_recipe(tiny, tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "absent"))
    with tracking(recipe, Run(tmp_path / "run")):
        assert os.environ["WANDB_MODE"] == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123456789abcdef0123456789abcdef01234567")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with tracking(recipe, Run(tmp_path / "run")):
        assert "WANDB_MODE" not in os.environ


def tiny_recipe(tiny: Any, tmp_path: Path) -> Any:
    from poise.recipe import load_recipe

    values = {"model_name_or_path": "m", "dataset_name": "d", "output_dir": tmp_path / "run", "report_to": "wandb"}
    return load_recipe("sft", None, tiny.settings(**values))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_trackio_has_every_step_and_no_secret(track: Any, tmp_path: Path) -> None:
    needs("trackio")
    run = track("trackio", project="mine")
    assert_no_secret(tmp_path / "trackio")
    assert len(run.metrics()) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_mlflow_has_the_losses_of_metrics_jsonl_and_no_secret(track: Any, tmp_path: Path) -> None:
    needs("mlflow")
    run = track("mlflow")
    assert_no_secret(tmp_path / "mlruns")
    (losses,) = (tmp_path / "mlruns").rglob("metrics/loss")
    tracked = [float(line.split()[1]) for line in losses.read_text().splitlines()]
    assert tracked == pytest.approx([line["loss"] for line in run.metrics()])
