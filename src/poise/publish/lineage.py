"""What made a model: the stages before it, found by what each folder says it was made from.

merged folder ──merge.json──> adapter of a run ──manifest: model──> run before it … ──> base
pipeline folder ──pipeline.json──> its stages, the last model, the last evaluation
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from poise.errors import RunError
from poise.report.stage import Stage, read_evidence, read_stage
from poise.run import MANIFEST

RECORD, PIPELINE = "pipeline.json", "pipeline.yaml"
MADE = ("merge.json", "rehearsal.json")
"""What says of a folder which model it was made from, and how."""
CURATION = "curation.json"
FARTHEST = 20
"""Stages followed back."""


@dataclass(frozen=True)
class Lineage:
    """A model's folder, and all that is known of how it came about, the earliest first."""

    model: Path
    """What transformers loads: a run's `model`, or a merged or quantized folder."""
    trainings: list[Stage] = field(default_factory=list[Stage])
    folders: list[Path] = field(default_factory=list[Path])
    """Of the trainings."""
    curations: dict[str, Path] = field(default_factory=dict[str, Path])
    """Curated datasets that they read, by the name under which a run counts their rows."""
    made: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """What merging and quantizing found, by the file that holds it, the earliest first."""
    command: str = ""
    """The one command that makes all of it, where there is one."""
    pipeline: Path | None = None
    """The file that it reads."""

    @property
    def template_hash(self) -> str | None:
        """Of the template that the last training rendered its rows with; None where it does not say."""
        last = self.trainings[-1].manifest.get("model") if self.trainings else None
        return last.get("chat_template_hash") if isinstance(last, dict) else None

    @property
    def base(self) -> str:
        """The model that the first training began with; empty where nothing says."""
        first = self.trainings[0].manifest.get("model") if self.trainings else None
        return str(first.get("name") or "") if isinstance(first, dict) else ""


def lineage_of(path: Path) -> Lineage:
    """Find what a name on disk stands for; RunError where it holds no model."""
    if (path / RECORD).is_file():
        return _of_pipeline(path)
    model, made = _made(path / "model" if (path / MANIFEST).is_file() else path)
    source = _run_of(model[-1])
    if not path.is_dir() or (source is None and not _is_model(model[0])):
        raise RunError(f"{path} holds no model\n    to do:  name a run, a pipeline's folder, or a model's folder")
    folders = _runs_before(source) if source else []
    if source and not _is_model(model[0]):
        raise RunError(f"{path} holds no model yet\n    to do:  finish the run with --resume, or name another")
    return _lineage(model[0], folders, made)


def _lineage(model: Path, folders: Sequence[Path], made: dict[str, dict[str, Any]], **more: Any) -> Lineage:
    stages = [read_stage(folder) for folder in folders]
    curations = {
        name: found
        for stage in stages
        for name in (stage.manifest.get("data") or {}).get("curations") or {}
        if ((found := Path(name)) / CURATION).is_file()
    }
    return Lineage(model, stages, list(folders), curations, made, **more)


def _of_pipeline(out: Path) -> Lineage:
    record = _read(out / RECORD)
    done = [out / name for name, stage in record.get("stages", {}).items() if stage.get("status") == "done"]
    runs = [folder for folder in done if (folder / "model").is_dir() and (folder / MANIFEST).is_file()]
    if not runs:
        raise RunError(f"{out} has trained no model yet\n    to do:  finish it with poise run")
    exported = [folder for folder in done if any((folder / name).is_file() for name in MADE)]
    models, made = _made(exported[-1] if exported else runs[-1] / "model")
    command = f"poise run {PIPELINE}" if (out / PIPELINE).is_file() else ""
    lineage = _lineage(models[0], runs, made, command=command, pipeline=out / PIPELINE if command else None)
    evaluated = [folder for folder in done if folder.name.endswith("-evaluate")]
    if evaluated:
        evidence, samples = read_evidence(evaluated[-1])
        lineage.trainings[-1] = replace(lineage.trainings[-1], evidence=evidence, samples=samples)
    return lineage


def _made(folder: Path) -> tuple[list[Path], dict[str, dict[str, Any]]]:
    """Follow what a folder was merged or quantized from; returns the folders, the last one first asked for."""
    folders, made = [folder], dict[str, dict[str, Any]]()
    while len(folders) < FARTHEST:
        found = next((name for name in MADE if (folders[-1] / name).is_file() and name not in made), None)
        if found is None:
            break
        made[found] = _read(folders[-1] / found)
        before = made[found].get("adapter_name") or made[found].get("model")
        if not isinstance(before, str) or not Path(before).is_dir():
            break
        folders.append(Path(before))
    return folders, dict(reversed(made.items()))


def _runs_before(run: Path) -> list[Path]:
    """List a run and those whose models it went on from, the first first."""
    folders = [run]
    while len(folders) < FARTHEST:
        manifest = _read(folders[0] / MANIFEST)
        before = _run_of(Path(str((manifest.get("model") or {}).get("name") or "")))
        if before is None or before in folders:
            break
        folders.insert(0, before)
    return folders


def _run_of(model: Path) -> Path | None:
    """Return the run that a path stands for: itself, or the one whose `model` it is."""
    found = next((folder for folder in (model, model.parent) if (folder / MANIFEST).is_file()), None)
    return found if found == model or model.name in ("model", "base") else None


def _is_model(folder: Path) -> bool:
    names = ("config.json", "adapter_config.json")
    return any((folder / name).is_file() for name in names) or any(folder.glob("*.gguf"))


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} cannot be read ({error})\n    to do:  make it again") from None
    return found if isinstance(found, dict) else {}
