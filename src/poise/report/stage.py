"""A Stage: what one Run folder says, read once into a value. Files that are missing read as empty."""

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from poise.errors import RunError
from poise.report.wording import is_number
from poise.run import EVIDENCE, LEDGER, Run, read_lines

DROPS_SHOWN = 12


@dataclass(frozen=True)
class Stage:
    """One training of a pipeline, as its folder tells it."""

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
    """Read a Run folder, or say why it cannot be read."""
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


def read_evidence(place: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read evidence and samples from a folder, or from an evidence file and the samples beside it."""
    run = Run(place if place.is_dir() else place.parent)
    if not (run.path / EVIDENCE).is_file():
        raise RunError(f"{place} holds no {EVIDENCE}")
    try:
        return run.evidence(), run.samples()
    except ValueError as error:
        raise RunError(f"{place} is not JSON ({error}); evaluate again to write it anew") from None
