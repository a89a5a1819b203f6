"""pipeline.json: what was made of what, by content, so that a second run knows what is left to do without doing it.

asked      hash of the file, its recipes, the command line and poise's version
stages     per stage: status, values (hash of its keys), reads and writes (path -> hash), seconds, facts
files      path -> [bytes, modification time, SHA-256]: an unchanged file is not read again
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from poise import __version__
from poise.errors import RunError
from poise.pipeline.file import Pipeline, Step
from poise.run import file_sha256, write_whole

RECORD = "pipeline.json"


class Record:
    """The record of one output folder."""

    def __init__(self, out: Path) -> None:
        self.path = out / RECORD
        try:
            held: dict[str, Any] = json.loads(self.path.read_text()) if self.path.is_file() else {}
            self.asked: str = held.get("asked", "")
            self.stages: dict[str, dict[str, Any]] = held.get("stages", {})
            self._files: dict[str, list[Any]] = held.get("files", {})
        except (ValueError, AttributeError):
            raise RunError(f"{self.path} cannot be read\n    to do:  remove it; all is then made again") from None

    def is_finished(self, pipeline: Pipeline, overrides: Sequence[str]) -> bool:
        """Whether everything asked for is there as it was made; reads no more than hashes and file dates."""
        if self.asked != self.question(pipeline, overrides) or list(self.stages) != [s.name for s in pipeline.steps]:
            return False
        return all(
            stage["status"] == "done" and all(self.content(path) == sha256 for path, sha256 in _paths(stage))
            for stage in self.stages.values()
        )

    def question(self, pipeline: Pipeline, overrides: Sequence[str]) -> str:
        """Hash what the person asked for."""
        files = [pipeline.path, *dict.fromkeys(step.recipe for step in pipeline.steps if step.recipe)]
        return digest([__version__, list(overrides), [[str(file), file_sha256(file)] for file in files]])

    def why_run(self, step: Step, values: str, reads: dict[str, str]) -> str | None:
        """Say why a stage has to be made; None where its result is there and nothing has changed."""
        stage = self.stages.get(step.name)
        if stage is None:
            return "not made yet"
        if stage["values"] != values:
            return "its keys have changed"
        changed = [path for path in reads.keys() | stage["reads"].keys() if reads.get(path) != stage["reads"].get(path)]
        if changed:
            return f"{min(changed)} has changed"
        if stage["status"] != "done":
            return "it was not finished"
        lost = [path for path, sha256 in stage["writes"].items() if self.content(path) != sha256]
        return f"{lost[0]} is not what it made" if lost else None

    def can_go_on(self, step: Step, values: str, reads: dict[str, str]) -> bool:
        """Whether a stage was begun with the same keys and the same input."""
        stage = self.stages.get(step.name, {})
        return stage.get("status") == "begun" and (stage["values"], stage["reads"]) == (values, reads)

    def begin(self, step: Step, values: str, reads: dict[str, str]) -> None:
        """Note what a stage is being made of."""
        self.asked = ""
        self.stages[step.name] = {"status": "begun", "values": values, "reads": reads, "writes": {}}
        self.save()

    def finish(self, step: Step, writes: Iterable[Path], seconds: float, facts: dict[str, Any]) -> None:
        """Note what a stage has made."""
        made = {str(path): self.content(str(path)) for path in writes}
        self.stages[step.name] |= {"status": "done", "writes": made, "seconds": round(seconds, 1), "facts": facts}
        self.save()

    def close(self, pipeline: Pipeline, overrides: Sequence[str]) -> None:
        """Note that everything asked for is done, and forget stages that are no longer asked for."""
        self.stages = {step.name: self.stages[step.name] for step in pipeline.steps}
        used = [path for stage in self.stages.values() for path, _ in _paths(stage)]
        self._files = {file: facts for file, facts in self._files.items() if any(_is_in(file, path) for path in used)}
        self.asked = self.question(pipeline, overrides)
        self.save()

    def save(self) -> None:
        """Write it, whole."""
        held = {"poise": __version__, "asked": self.asked, "stages": self.stages, "files": self._files}
        write_whole(self.path, json.dumps(held, indent=2) + "\n")

    def contents(self, paths: Iterable[Path]) -> dict[str, str]:
        """Hash several files or folders."""
        return {str(path): self.content(str(path)) for path in paths}

    def content(self, name: str) -> str:
        """Hash a file, or the files of a folder with their names; hidden ones, locks and half-written files, do not
        count. Empty where there is nothing."""
        path = Path(name)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file, path))
            return digest([[file.relative_to(path).as_posix(), self._file(file)] for file in files])
        return self._file(path) if path.is_file() else ""

    def _file(self, file: Path) -> str:
        stat = file.stat()
        known = self._files.get(str(file))
        if known is None or known[:2] != [stat.st_size, stat.st_mtime_ns]:
            known = self._files[str(file)] = [stat.st_size, stat.st_mtime_ns, file_sha256(file)]
        return str(known[2])


def digest(value: Any) -> str:
    """Hash plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _paths(stage: dict[str, Any]) -> list[tuple[str, str]]:
    return [*stage["reads"].items(), *stage["writes"].items()]


def _is_in(file: str, path: str) -> bool:
    return file == path or file.startswith(f"{path.rstrip('/')}/")


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
