"""A preference run says what its numbers mean while it trains, once, and its report says it too."""

from typing import Any

import pytest


def test_a_run_that_does_not_move_says_so_once_and_in_its_report(
    tiny: Any, train_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"learning_rate": 1e-12, "per_device_train_batch_size": 1, "max_steps": 56, "logging_steps": 2}
    run = train_run("dpo", tiny.uneven_pairs(8), report=True, **settings)
    assert list(run.manifest["diagnoses"]) == ["stuck"]
    # in training, and in the verdict
    assert capsys.readouterr().err.count("the loss is still ln 2 = 0.693 after 50 steps") == 2
    assert "the loss is still ln 2" in (run.path / "report.html").read_text()


def test_a_run_that_learns_is_called_nothing(tiny: Any, train_run: Any) -> None:
    run = train_run("dpo", tiny.uneven_pairs(40), learning_rate=1e-3, per_device_train_batch_size=4, num_train_epochs=3)
    assert "diagnoses" not in run.manifest
