"""A Stage: what one Run folder says, read once into a value. Files that are missing read as empty."""

import json
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from poise.errors import RunError
from poise.report.wording import is_number
from poise.run import EVIDENCE, LEDGER, Run, read_lines

DROPS_SHOWN = 12
OTHERS = {"curate": "curation.json", "merge": "merge.json"}
"""Stages that train nothing, and the file that says what they did."""


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline, as its folder tells it."""

    manifest: dict[str, Any]
    metrics: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    ledger: dict[str, Any] = field(default_factory=dict[str, Any])
    drops: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The first dropped rows."""
    recipe: str = ""
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
    samples: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def name(self) -> str:
        """The verb that ran: `sft`, `dpo`."""
        return str(self.manifest.get("verb") or "run")

    @property
    def trains(self) -> bool:
        """Whether it trained a model."""
        return self.name not in OTHERS

    @property
    def labels(self) -> list[str]:
        """The models that answered, in order: those the evidence names, else those found in the samples."""
        named = [str(label) for label in self.evidence.get("labels") or []]
        return named or list(dict.fromkeys(label for sample in self.samples for label in sample.get("answers") or {}))

    def series(self, key: str) -> list[tuple[float, float]]:
        """Return the (step, value) points of one metric; what is not a finite number is left out."""
        return [
            (line["step"], line[key]) for line in self.metrics if is_number(line["step"]) and is_number(line.get(key))
        ]


def read_stage(folder: Path) -> Stage:
    """Read a Run folder, or one that a curation or a merge wrote; RunError says why it cannot be read."""
    other = next((verb for verb, file in OTHERS.items() if (folder / file).is_file()), None)
    if other is not None:
        return _read_other(folder, other)
    run = Run.open(folder)
    recipe = folder / "recipe.resolved.yaml"
    try:
        return Stage(
            manifest=run.manifest,
            metrics=run.metrics(),
            ledger=run.ledger(),
            drops=list(islice(read_lines(folder / LEDGER), DROPS_SHOWN)),
            recipe=recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else "",
            evidence=run.evidence(),
            samples=run.samples(),
        )
    except (ValueError, KeyError) as error:
        raise RunError(f"{folder} holds a file that cannot be read ({error!r}); restore or delete that file") from None


def _read_other(folder: Path, verb: str) -> Stage:
    """Read what made a dataset, or made one model of two: its manifest, and a curation's counts."""
    try:
        manifest = json.loads((folder / OTHERS[verb]).read_text())
        return Stage(manifest={**manifest, "verb": verb}, ledger=Run(folder).ledger())
    except (ValueError, TypeError) as error:
        raise RunError(f"{folder} holds a file that cannot be read ({error!r}); restore or delete that file") from None


def read_evidence(place: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read evidence and samples from a folder, or from an evidence file and the samples beside it."""
    run = Run(place if place.is_dir() else place.parent)
    if not (run.path / EVIDENCE).is_file():
        raise RunError(f"{place} holds no {EVIDENCE}")
    try:
        return run.evidence(), run.samples()
    except ValueError as error:
        raise RunError(f"{place} is not JSON ({error}); evaluate again to write it anew") from None
