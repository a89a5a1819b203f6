"""The record of a rehearsal: what it lets through and what it stops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poise.errors import DivergenceError, RunError
from poise.publish.rehearsal import REHEARSAL, Rehearsal, Tolerance, check_rehearsal, read_rehearsal
from poise.run import file_sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.gguf").write_bytes(b"weights")
    return tmp_path


def seen(folder: Path, **changes: Any) -> Rehearsal:
    found = Rehearsal(
        "gguf-q8_0", "merged", "2026-01-01T00:00:00Z", "llama.cpp", prompts=20, tokens=400, agreement=0.99,
        same_answers=18, perplexity=(4.0, 4.02), perplexity_over="rows of the run", stop_rate=(1.0, 0.95),
        same_templates=20, stop_tokens=(["</s>"], ["</s>"]), tolerance=Tolerance(0.98, 0.01),
        files={"model.gguf": file_sha256(folder / "model.gguf")},
    )  # fmt: skip
    return replace(found, **changes)


def test_a_record_within_tolerance_is_read_back_and_let_through(folder: Path) -> None:
    made = seen(folder, notes=["a note"], answers=[{"id": "1", "before": "a", "after": "a"}])
    made.write(folder)
    assert made.faults() == []
    assert read_rehearsal(folder) == check_rehearsal(folder) == made


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"agreement": 0.979}, r"agrees at 97\.90% of 400, at least 98\.00%"),
        ({"agreement": float("nan")}, "agrees at nan"),
        ({"perplexity": (4.0, 4.05)}, r"from 4 to 4\.05, at most 1\.0%"),
        ({"perplexity": (4.0, float("nan"))}, "from 4 to nan"),
        ({"stop_rate": (1.0, 0.85)}, "85% of the answers stop by themselves, 100% did before"),
        ({"same_templates": 19}, "1 of 20 prompts are other tokens"),
        ({"stop_tokens": (["<|im_end|>", "</s>"], ["</s>"])}, r"do not stop at <\|im_end\|>"),
    ],
)
def test_each_measure_outside_of_its_tolerance_is_named(folder: Path, changes: dict[str, Any], fault: str) -> None:
    seen(folder, **changes).write(folder)
    with pytest.raises(DivergenceError, match=fault):
        check_rehearsal(folder)


def test_files_that_changed_vanished_or_came_later_are_refused(folder: Path) -> None:
    seen(folder).write(folder)
    (folder / "more.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"more\.safetensors is not what was rehearsed"):
        check_rehearsal(folder)
    (folder / "more.safetensors").unlink()
    (folder / "model.gguf").write_bytes(b"weightz")
    with pytest.raises(RunError, match=r"model\.gguf is not what was rehearsed"):
        check_rehearsal(folder)
    (folder / "model.gguf").unlink()
    with pytest.raises(RunError, match=r"model\.gguf is not what was rehearsed"):
        check_rehearsal(folder)


def test_a_quantized_folder_needs_a_record_and_another_one_needs_none(folder: Path) -> None:
    with pytest.raises(RunError, match="is quantized and was not rehearsed"):
        check_rehearsal(folder)
    (folder / "model.gguf").unlink()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    assert check_rehearsal(folder) is None
    (folder / "config.json").write_text('{"quantization_config": {}}')
    with pytest.raises(RunError, match="is quantized and was not rehearsed"):
        check_rehearsal(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"within_tolerance": true, "faults": [], "tolerance": 1}'])
def test_a_broken_record_is_refused(folder: Path, text: str) -> None:
    (folder / REHEARSAL).write_text(text)
    with pytest.raises(RunError, match="is no rehearsal"):
        read_rehearsal(folder)
