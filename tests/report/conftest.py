"""Run folders as small as a test needs them, written the way the stages write them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poise.report.stage import Stage

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write a Run folder from a Stage and return its path."""

    def write(name: str, stage: Stage) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        jsons = {"manifest.json": stage.manifest, "ledger.json": stage.ledger, "evidence.json": stage.evidence}
        lines = {"metrics.jsonl": stage.metrics, "ledger.jsonl": stage.drops, "samples.jsonl": stage.samples}
        for file, value in jsons.items():
            if value:
                (folder / file).write_text(json.dumps(value))
        for file, rows in lines.items():
            if rows:
                (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        if stage.recipe:
            (folder / "recipe.resolved.yaml").write_text(stage.recipe)
        return folder

    return write


@pytest.fixture
def scored() -> Callable[..., Stage]:
    """Make a finished stage whose models answered question sets: `facts={"before": 0, "dpo": 12}` of `n`."""

    def make(verb: str, metrics: list[dict[str, Any]], n: int, **sets: dict[str, int]) -> Stage:
        labels = list(dict.fromkeys(label for counts in sets.values() for label in counts))
        samples = [
            {
                "id": f"{name}-{i}",
                "set": name,
                "prompt": [{"role": "user", "content": f"{name} {i}?"}],
                "expected": "yes",
                "answers": {
                    label: {
                        "text": "yes" if i < right else "no",
                        "score": float(i < right),
                        "stopped": True,
                        "tokens": 1,
                    }
                    for label, right in counts.items()
                },
            }
            for name, counts in sets.items()
            for i in range(n)
        ]
        entries = [
            {
                "name": name,
                "title": f"{name} right",
                "n": n,
                "scores": {label: right / n for label, right in counts.items()},
                "counts": counts,
            }
            for name, counts in sets.items()
        ]
        evidence = {"labels": labels, "sets": entries}
        return Stage({"verb": verb, "status": "done"}, metrics, evidence=evidence, samples=samples)

    return make
