"""Curate: sources -> steps -> a dataset, every stage a folder of parquet that is made once and reused.

    sources ──load──> rows ──exact──> ──near_duplicates──> ──decontaminate──> … ──split──> ──formats──> data/
                        │ drops          │ drops               │ drops           │ drops
                        └────────────────┴──────── ledger: every row that is not in data/, and why

A stage's name in the cache is a hash of its input's, of the code and of its recipe keys. It is written under another
name first, so that a stage is whole or not there, and a killed build goes on where it was.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from poise import __version__, progress
from poise.curate import load as loading
from poise.curate.arrow import compute as pc
from poise.curate.code import code_sha256
from poise.curate.curation import Curation, RayCluster
from poise.curate.engine import Engine
from poise.curate.rows import DROPS, Decisions, Rows, count_by
from poise.curate.sampling import hold_out, sample_sources
from poise.curate.step import PACKAGE as STEPS
from poise.curate.write import publish, write_dataset
from poise.errors import DataError
from poise.run import Run, file_sha256, now, write_whole

STAGES = ".stages"
SAMPLING = "poise.curate.sampling"
FACTS = "stage.json"


@dataclass(frozen=True)
class Stage:
    """A finished stage: its folder, what it counted, and whether it was there already."""

    name: str
    key: str
    path: Path
    facts: dict[str, Any]
    reused: bool

    def table(self, name: str) -> pa.Table:
        """Read one of its tables."""
        return pq.read_table(self.path / name)

    @property
    def files(self) -> list[Path]:
        """The rows that a load stage wrote."""
        return sorted(self.path.glob("rows-*.parquet"))


@dataclass(frozen=True)
class Workshop:
    """The folder of stages."""

    path: Path

    def stage(self, name: str, parts: Any, code: Sequence[str], make: Callable[[Path], dict[str, Any]]) -> Stage:
        """Return the stage whose inputs and keys are `parts` and whose modules are `code`; make a missing one."""
        own = file_sha256(Path(__file__))
        hashed = json.dumps([name, own, code_sha256(code), parts], sort_keys=True, default=str)
        key = hashlib.sha256(hashed.encode()).hexdigest()
        final = self.path / f"{name}-{key[:16]}"
        if (final / FACTS).is_file():
            return Stage(name, key, final, json.loads((final / FACTS).read_text()), reused=True)
        staged = self.path / f".{name}-{key[:16]}"
        for unfinished in (staged, final):
            shutil.rmtree(unfinished, ignore_errors=True)
        staged.mkdir(parents=True)
        began = time.monotonic()
        facts = make(staged)
        facts["seconds"] = round(time.monotonic() - began, 3)
        write_whole(staged / FACTS, json.dumps(facts, indent=2, sort_keys=True) + "\n")
        staged.rename(final)
        return Stage(name, key, final, facts, reused=False)

    def keep_only(self, stages: Sequence[Stage]) -> None:
        """Remove what this build did not use."""
        wanted = {stage.path.name for stage in stages}
        for path in self.path.iterdir():
            if path.name not in wanted:
                shutil.rmtree(path)


def curate(curation: Curation) -> dict[str, Any]:
    """Build the dataset; returns the counts. What is there and unchanged is reused."""
    run = Run(Path(curation.out))
    run.lock()
    try:
        return _curate(curation, run)
    finally:
        run.unlock()


def _curate(curation: Curation, run: Run) -> dict[str, Any]:
    began = time.monotonic()
    engine = _engine(curation)
    workshop = Workshop(run.path / STAGES)
    loads = _load_all(curation, workshop)
    stages = list(loads)
    files = [file for stage in loads for file in stage.files]
    if not files:
        raise DataError(f"{curation.out}: no source gave a row to train on; look at each source's drops in {STAGES}")
    dropped = DROPS.empty_table().select(["id"])
    columns: list[pa.Table] = []
    left = sum(stage.facts["made"] for stage in loads)
    for name, parameters, decide in _decisions(curation):
        rows = Rows(engine, files, dropped, left, tuple(columns), name)
        parts = [parameters, [stage.key for stage in stages]]
        code = [SAMPLING if name in ("hold_out", "sample") else f"{STEPS}.{name}"]
        stage = workshop.stage(
            name, parts, code, lambda folder, rows=rows, decide=decide: _decided(folder, rows, decide(rows))
        )
        stages.append(stage)
        drops = stage.table("drops.parquet")
        dropped = pa.concat_tables([dropped, drops.select(["id"])])
        if (stage.path / "columns.parquet").is_file():
            columns.append(stage.table("columns.parquet"))
        left -= len(drops)
        _tell(stage, left)
        if not left:
            raise DataError(f"{curation.out}: the step {name} drops every row that is left: {stage.facts['dropped']}")
    rows = Rows(engine, files, dropped, left, tuple(columns), "write")
    described = {"curation": _described(curation), "stages": [stage.key for stage in stages]}
    written = workshop.stage(
        "write",
        described,
        ["poise.curate.write", *(f"{STEPS}.{name}" for name, _ in curation.named_steps()), *_catalogued(curation)],
        lambda folder: write_dataset(folder, curation, rows, [(s.name, s.path, s.facts) for s in stages]),
    )
    stages.append(written)
    manifest = {
        "poise": __version__,
        "recipe": _described(curation),
        "stages": [
            {"name": stage.name, "key": stage.key[:16], "reused": stage.reused, **stage.facts} for stage in stages
        ],
        "created": now(),
    }
    publish(written.path, run.path, manifest)
    workshop.keep_only(stages)
    counts = json.loads((run.path / "ledger.json").read_text())
    progress.say(
        f"{run.path}: {counts['in']:,} rows in, {counts['used']:,} used · {written.facts['rows']:,} rows written "
        f"in {time.monotonic() - began:.1f} s\n    look:   poise look {run.path}\n    why:    poise trace {run.path} ID"
    )
    return {**counts, "written": written.facts["written"], "out": str(run.path)}


def _engine(curation: Curation) -> Engine:
    if isinstance(curation.engine, RayCluster):
        return Engine("ray", curation.engine.ray)
    return Engine(curation.engine)


def _load_all(curation: Curation, workshop: Workshop) -> list[Stage]:
    stages: list[Stage] = []
    for order, entry in enumerate(curation.sources):
        keys = entry.model_dump(exclude={"count", "fraction", "repeat"})
        files = loading.fingerprint(entry)
        parts = [keys, order, curation.seed, files]
        stage = workshop.stage(
            f"load-{_plain(entry.label)}",
            parts,
            ["poise.curate.load", *_catalogued(curation, entry.source)],
            lambda folder, entry=entry, order=order, files=files: {
                **loading.load_source(entry, order, curation.seed, folder),
                "files": files,
            },
        )
        facts, again = stage.facts, " (as before)" if stage.reused else ""
        told = ", ".join(f"{count:,} {reason}" for reason, count in facts["dropped"].items())
        progress.say(
            f"load {entry.label}: {facts['in']:,} rows in, {facts['made']:,} made{again}"
            + (f" · {told}" if told else "")
        )
        stages.append(stage)
    return stages


def _catalogued(curation: Curation, *names: str | None) -> list[str]:
    """List the catalog files of the sources with these names, or of all."""
    wanted = names or [entry.source for entry in curation.sources]
    return [f"poise.catalog.{name}" for name in wanted if name is not None]


def _decisions(curation: Curation) -> list[tuple[str, Any, Callable[[Rows], Decisions]]]:
    """List the steps, and last the sampling that single sources ask for."""
    steps: list[tuple[str, Any, Callable[[Rows], Decisions]]]
    steps = [(name, [step.model_dump(), step.fingerprint()], step.decide) for name, step in curation.named_steps()]
    held_out = [entry.label for entry in curation.sources if entry.held_out]
    if held_out:
        steps.append(("hold_out", held_out, lambda rows: hold_out(rows, held_out)))
    sampled = [entry for entry in curation.sources if entry.count is not None or entry.fraction is not None]
    if sampled:
        keys = [[entry.label, entry.count, entry.fraction, entry.stratify, curation.seed] for entry in sampled]
        steps.append(("sample", keys, lambda rows: sample_sources(rows, sampled, curation.seed)))
    return steps


def _decided(folder: Path, rows: Rows, decisions: Decisions) -> dict[str, Any]:
    """Write a stage's decisions; in = out + dropped is checked against the rows themselves."""
    drops = decisions.drops.cast(DROPS).sort_by("id")
    if len(pc.unique(drops["id"])) != len(drops):
        raise DataError("a step drops one row twice; this is a defect of the step")
    pq.write_table(drops, folder / "drops.parquet", compression="zstd")
    if decisions.columns is not None:
        pq.write_table(decisions.columns, folder / "columns.parquet", compression="zstd")
    after = Rows(rows.engine, rows.files, pa.concat_tables([rows.dropped, drops.select(["id"])]), 0)
    left = len(after.stored("id"))
    if left != rows.count - len(drops):
        raise DataError(
            f"{rows.count:,} rows in, {len(drops):,} dropped, but {left:,} left: a step drops rows that are not there"
        )
    return {"in": rows.count, "left": left, "dropped": count_by(drops, "reason"), "facts": decisions.facts}


def _tell(stage: Stage, left: int) -> None:
    told = ", ".join(f"{count:,} {reason}" for reason, count in stage.facts["dropped"].items()) or "nothing"
    again = " (as before)" if stage.reused else f" in {stage.facts['seconds']:.1f} s"
    progress.say(f"{stage.name}: dropped {told} · {left:,} left{again}")


def _described(curation: Curation) -> dict[str, Any]:
    return curation.model_dump(mode="json", exclude={"out"})


def _plain(label: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "-" for character in label)
