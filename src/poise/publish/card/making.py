"""The card's account of the making: data with licences, every training, merging and quantizing, commands and hashes."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, TypeGuard

from poise import __version__
from poise.publish.card.about import NOT_MEASURED, About
from poise.publish.card.markdown import Written, block, inline, table
from poise.publish.card.sources import Source
from poise.publish.licences import Licence
from poise.publish.lineage import Lineage
from poise.report.stage import Stage
from poise.report.wording import count, duration, size
from poise.run import file_sha256


def data(about: About) -> str:
    """Write what was trained on, and under which licences."""
    if not about.sources:
        return f"Datasets: {NOT_MEASURED}."
    rows = [
        (each.stage, _dataset(each), licence_told(each.licence), count(each.rows_in), count(each.used),
         each.left_out or "none")
        for each in about.sources
    ]  # fmt: skip
    parts = [table(("stage", "dataset", "licence", "rows in", "used", "left out, why"), rows)]
    parts += [f"- {inline(each.name)}: {inline(each.risk)}" for each in about.sources if each.risk]
    return "\n\n".join(parts)


def _dataset(source: Source) -> Written:
    if source.hub:
        return Written(f"[{inline(source.hub)}](https://huggingface.co/datasets/{source.hub})")
    return Written(inline(path_end(source.name)))


def training(lineage: Lineage) -> str:
    """Write a column for each training."""
    if not lineage.trainings:
        return f"Recipe, hardware, tokens, time: {NOT_MEASURED}."
    columns = [_trained(stage) for stage in lineage.trainings]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, *(column.get(name, NOT_MEASURED) for column in columns)) for name in names]
    return table(["", *(inline(stage.name) for stage in lineage.trainings)], rows)


def _trained(stage: Stage) -> dict[str, str]:
    manifest, data, model = stage.manifest, _part(stage, "data"), _part(stage, "model")
    speeds = [value for _, value in stage.series("tokens_per_second")]
    memory = [value for _, value in stage.series("peak_memory_bytes")]
    facts: dict[str, Any] = {
        "starts from": path_end(str(model.get("name"))) if model.get("name") else None,
        "weights trained": f"{count(model.get('trainable_parameters'))} of {count(model.get('parameters'))}"
        + (f" ({model['tuning']})" if model.get("tuning") else "") if model.get("parameters") else None,
        "objective": _objective(manifest.get("objective")),
        "learning rate": _setting(stage.recipe, "learning_rate"),
        "rows": count(data.get("rows")) if is_number(data.get("rows")) else None,
        "tokens, of which trained on": f"{count(data.get('tokens'))}, {count(data.get('trained_tokens'))}"
        if is_number(data.get("tokens")) else None,
        "optimizer steps": count(manifest.get("optimizer_steps")) if manifest.get("optimizer_steps") else None,
        "wall time": duration(manifest.get("seconds")) if is_number(manifest.get("seconds")) else None,
        "tokens per second, median": count(median(speeds)) if speeds else None,
        "peak memory": size(max(memory)) if memory else None,
        "hardware": machine(stage),
        "precision": model.get("dtype"),
        "reference, its weights": _reference(manifest),
        "energy": None,
    }  # fmt: skip
    return {name: NOT_MEASURED if value is None else str(value) for name, value in facts.items()}


def _setting(recipe: str, key: str) -> str | None:
    """Read a number of a resolved recipe."""
    found = re.search(rf"^{key}: (\S+)", recipe, re.MULTILINE)
    return found[1] if found else None


def _objective(settings: Any) -> str | None:
    if not isinstance(settings, dict):
        return None
    said = {key: value for key, value in settings.items() if value is not None}
    return ", ".join(f"{key}={value}" for key, value in said.items()) or "no settings of its own"


def _reference(manifest: dict[str, Any]) -> str | None:
    facts = manifest.get("reference")
    if isinstance(facts, dict):
        return str(facts.get("sha256") or NOT_MEASURED)[:16]
    return "none" if "reference" in manifest else None


def made(made: dict[str, dict[str, Any]]) -> Iterable[str]:
    """Write what merging and quantizing found."""
    for name, found in made.items():
        yield f"## {verb(name).capitalize()}"
        told = {key.replace("_", " "): _found(value) for key, value in found.items() if key != "created"}
        yield table(("found", ""), ((name, value) for name, value in told.items() if value))


def _found(value: Any) -> str:
    """Write a plain value, or what was before and after; nothing for all else."""
    if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
        return f"{value[0]:.6g} → {value[1]:.6g}"
    return path_end(str(value)) if isinstance(value, str | int | float) else ""


def again(lineage: Lineage) -> str:
    """Write the commands that make the model, and hashes to compare."""
    if not lineage.trainings:
        return f"Command and hashes: {NOT_MEASURED}."
    commands = [lineage.command] if lineage.command else [
        str(stage.manifest.get("command") or NOT_MEASURED) for stage in lineage.trainings
    ]  # fmt: skip
    versions = _part(lineage.trainings[-1], "versions")
    hashes = [("poise", str(lineage.trainings[-1].manifest.get("poise") or __version__))]
    hashes += [(name, str(version)) for name, version in versions.items()]
    for stage in lineage.trainings:
        hashes += [(f"{stage.name}: rows", _part(stage, "data").get("sha256") or NOT_MEASURED),
                   (f"{stage.name}: weights at the start", _part(stage, "model").get("weights_sha256") or NOT_MEASURED),
                   (f"{stage.name}: recipe", _sha256(stage.recipe))]  # fmt: skip
    weights = [path for ending in ("safetensors", "gguf") for path in sorted(lineage.model.glob(f"*.{ending}"))]
    hashes += [(path.name, file_sha256(path)) for path in weights]
    return "\n\n".join([block("\n".join(commands), "bash"), table(("", "version or SHA-256"), hashes)])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest() if text else NOT_MEASURED


def licence_told(licence: Licence | None) -> str:
    """Say a licence with where it was read."""
    return f"{licence.name} (by {licence.read_in})" if licence else "not known"


def machine(stage: Stage) -> str:
    """Say what a training ran on."""
    machine = _part(stage, "machine")
    if not machine.get("device"):
        return NOT_MEASURED
    memory = f", {size(machine['memory_bytes'])}" if is_number(machine.get("memory_bytes")) else ""
    cores = f", {machine['cores']} cores" if machine.get("cores") else ""
    processes = stage.manifest.get("processes")
    return f"{machine['device']}{cores}{memory}" + (
        f", {processes} processes" if is_number(processes) and processes > 1 else ""
    )


def path_end(text: str) -> str:
    """Name what lies on this machine by the last parts of its path."""
    path = Path(text)
    return "/".join(path.parts[-2:]) if path.is_absolute() else text


def verb(file: str) -> str:
    """Say what was done, by the file that tells of it."""
    return {"merge.json": "merged", "rehearsal.json": "quantized"}[file]


def _part(stage: Stage, key: str) -> dict[str, Any]:
    part = stage.manifest.get(key)
    return part if isinstance(part, dict) else {}


def is_number(value: Any) -> TypeGuard[float]:
    """Tell a number from a boolean and all else."""
    return isinstance(value, int | float) and not isinstance(value, bool)
