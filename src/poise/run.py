"""A Run: one output folder that holds everything a training left behind, as plain append-only files.

manifest.json          what ran: verb, versions, machine, model, data, reference, status, seconds
recipe.resolved.yaml   every value with its origin
ledger.jsonl           one line per row that was dropped: stage, source, place, id, reason
ledger.json            the counts: in = used + dropped, by reason, by source
metrics.jsonl          one line per logged step
samples.jsonl          the same questions answered by each model, in order
evidence.json          scored question sets
checkpoints/           resumable states, the newest complete one wins
model/                 the result, loadable by transformers (or peft)
base/                  where an adapter was merged for a new one: the merged model under it
replay/                the rows of steps that went wrong
trackers/              what tensorboard and wandb wrote, where `report_to` names them
report.html            all of the above for a person
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from poise.errors import ResourceError, RunError
from poise.holder import is_alive, myself
from poise.sealed import discard, read_seal, sweep
from poise.secrets import hidden_within

MANIFEST, LEDGER, METRICS, SAMPLES, EVIDENCE, EVALUATION = (
    "manifest.json",
    "ledger.jsonl",
    "metrics.jsonl",
    "samples.jsonl",
    "evidence.json",
    "evaluation.json",
)
REPLAY = "replay"


@dataclass(frozen=True)
class Drop:
    """One row that was left out, and why."""

    stage: str
    """`load`, `render`, `dedup`, …"""
    source: str
    place: str
    """`file:row`."""
    reason: str
    """A short fixed phrase that can be counted: `too long`, `empty completion`."""
    id: str = ""
    evidence: str = ""


class Run:
    """An output folder; every write is whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Open an existing run for reading."""
        if not (path / MANIFEST).is_file():
            raise RunError(f"{path} is not a run: it has no {MANIFEST}")
        return cls(path)

    def lock(self) -> None:
        """Claim the folder for this process, or say who has it. A dead holder's claim is taken over."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _claim(self.path / ".lock")
        except OSError as error:
            raise RunError(
                f"cannot write to {self.path}: {error.strerror}\n    to do:  choose another output_dir"
            ) from error

    def unlock(self) -> None:
        """Give the folder free."""
        (self.path / ".lock").unlink(missing_ok=True)

    @property
    def is_begun(self) -> bool:
        """Whether anything was trained here that would be lost."""
        kept = (self.path / METRICS, self.path / "model", *(self.path / "checkpoints").glob("checkpoint-*"))
        return bool(self.manifest) and any(path.exists() for path in kept)

    def clear(self) -> None:
        """Remove what a run writes, and nothing else that may lie in the folder."""
        for name in (
            MANIFEST,
            LEDGER,
            METRICS,
            SAMPLES,
            EVIDENCE,
            "ledger.json",
            "recipe.resolved.yaml",
            "report.html",
        ):
            (self.path / name).unlink(missing_ok=True)
        for name in ("answers", "base", REPLAY, "trackers"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for folder in (*(self.path / "checkpoints").glob("checkpoint-*"), self.path / "model"):
            with contextlib.suppress(ValueError):  # without a seal it is not ours
                read_seal(folder)
                discard(folder)
        self.sweep()
        with contextlib.suppress(OSError):
            (self.path / "checkpoints").rmdir()

    def sweep(self) -> None:
        """Clear what processes that were killed left half-written."""
        for folder in (self.path, self.path / "checkpoints"):
            sweep(folder)
        for name in (MANIFEST, LEDGER, SAMPLES, EVIDENCE, ".lock", "ledger.json", "recipe.resolved.yaml"):
            for staged in self.path.glob(f".{name}.*"):
                if staged.name.removeprefix(f".{name}.").isdigit():
                    staged.unlink(missing_ok=True)

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, empty before the first write."""
        file = self.path / MANIFEST
        return json.loads(file.read_text()) if file.is_file() else {}

    def update_manifest(self, **values: Any) -> None:
        """Merge top-level values into the manifest, without secrets."""
        whole = {**self.manifest, **hidden_within(values)}
        write_whole(self.path / MANIFEST, json.dumps(whole, indent=2, default=str) + "\n")

    def write_ledger(self, rows_in: Counter[str], drops: Iterable[Drop]) -> dict[str, Any]:
        """Write every drop and the counts per source; returns the counts."""
        listed = list(drops)
        dropped: dict[str, Counter[str]] = {source: Counter() for source in rows_in}
        for drop in listed:
            dropped.setdefault(drop.source, Counter())[drop.reason] += 1
        by_source = {
            source: {
                "in": rows_in[source],
                "used": rows_in[source] - reasons.total(),
                "dropped": dict(reasons),
            }
            for source, reasons in dropped.items()
        }
        total = sum(dropped.values(), Counter[str]())
        counts = {
            "in": rows_in.total(),
            "used": rows_in.total() - total.total(),
            "dropped": dict(total),
            "by_source": by_source,
        }
        write_whole(self.path / LEDGER, "".join(json.dumps(asdict(drop)) + "\n" for drop in listed))
        write_whole(self.path / "ledger.json", json.dumps(counts, indent=2) + "\n")
        return counts

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl, in the place of a last one that a kill cut off."""
        with (self.path / METRICS).open("ab+") as file:
            file.seek(max(0, file.tell() - 1))
            if file.read() not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write(json.dumps(values).encode() + b"\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All logged steps, training and evaluation in one line; after a resume, the later values of a step hold."""
        by_step: dict[int, dict[str, Any]] = {}
        for line in read_lines(self.path / METRICS):
            by_step.setdefault(line["step"], {}).update(line)
        return [by_step[step] for step in sorted(by_step)]

    def samples(self) -> list[dict[str, Any]]:
        """The questions with each model's answer."""
        return list(read_lines(self.path / SAMPLES))

    def evidence(self) -> dict[str, Any]:
        """The scored question sets, empty where nothing was scored."""
        file = self.path / EVIDENCE
        return json.loads(file.read_text()) if file.is_file() else {}

    def ledger(self) -> dict[str, Any]:
        """The ledger's counts, empty before data was read."""
        file = self.path / "ledger.json"
        return json.loads(file.read_text()) if file.is_file() else {}


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with staged.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON lines of a file; nothing where there is none. A last line cut by a kill is passed over."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def model_folder(path: Path) -> Path:
    """Return the model of a run folder; any other path names a model itself."""
    return path / "model" if (path / MANIFEST).is_file() else path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """Return the time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def refuse_if_in_use(folder: Path) -> None:
    """Raise ResourceError, naming the holder, where another process writes into a run folder."""
    lock = folder / ".lock"
    holder = _holder(lock)
    if is_alive(holder):
        raise ResourceError(
            f"{folder} is in use by process {holder['pid']} on {holder['host']}; "
            "two runs in one folder would overwrite each other\n"
            f"    to do:  choose another output_dir, or stop that run; if it is long gone, remove {lock}"
        )


def _claim(lock: Path) -> None:
    with _one_at_a_time(lock.parent):
        refuse_if_in_use(lock.parent)
        write_whole(lock, json.dumps(myself()))


@contextmanager
def _one_at_a_time(folder: Path) -> Generator[None]:
    """Let one process at a time look at a lock and claim it; where there is no flock, they may meet."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have none
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _holder(lock: Path) -> dict[str, Any]:
    """Read who holds a lock; nobody does where the file is damaged."""
    try:
        holder = json.loads(lock.read_text())
        return {"pid": int(holder["pid"]), "host": str(holder["host"]), "since": float(holder["since"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
