"""What would be published: every file with its size and hash, where to, and who would see it. Nothing else is sent.

    weights in safetensors or GGUF, config, tokenizer, generation settings    as they lie in the model's folder
    README.md, evidence/                                                      written here, without secrets and paths

Files are taken by an allow-list. What must not leave stops the plan: pickles, rows of datasets, secrets, a licence
that forbids it, a quantized model that was not rehearsed or failed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from poise.errors import RunError
from poise.publish.target import Target
from poise.report.wording import size as told_size
from poise.run import file_sha256

Kind = Literal["model", "adapter", "quantized model", "dataset"]


@dataclass(frozen=True)
class Planned:
    """One file as it will stand at the target."""

    name: str
    size: int
    sha256: str
    source: Path | None = None
    """Where it lies; None where `content` is written for the occasion."""
    content: bytes = b""

    @classmethod
    def of_file(cls, name: str, source: Path) -> "Planned":
        """Plan a file that is there."""
        return cls(name, source.stat().st_size, file_sha256(source), source)

    @classmethod
    def of_text(cls, name: str, text: str) -> "Planned":
        """Plan a file that is written for the occasion."""
        content = text.encode()
        return cls(name, len(content), hashlib.sha256(content).hexdigest(), None, content)


@dataclass(frozen=True)
class Plan:
    """All that would be sent."""

    kind: Kind
    what: str
    """The folder that was named."""
    target: Target
    public: bool
    files: tuple[Planned, ...]
    left_out: tuple[str, ...] = ()
    """Files of the folder that are on no list of what is published."""
    warnings: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def visibility(self) -> str:
        """Who would see it."""
        if self.target.is_folder:
            return "as the folder"
        return "public: everybody sees it" if self.public else "private: you, and those you give access to"

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "kind": self.kind,
            "what": self.what,
            "to": str(self.target),
            "visibility": self.visibility,
            "bytes": self.total,
            "files": [{"name": file.name, "bytes": file.size, "sha256": file.sha256} for file in self.files],
            "left_out": list(self.left_out),
            "warnings": list(self.warnings),
            **self.facts,
        }


def told(plan: Plan) -> str:
    """Write a plan for the person who decides."""
    lines = [f"{plan.kind} {plan.what} → {plan.target}", f"visibility: {plan.visibility}"]
    lines += [f"{name}: {value}" for name, value in plan.facts.items()]
    width = max(len(file.name) for file in plan.files)
    lines += [f"  {file.name:<{width}}  {told_size(file.size):>9}  {file.sha256}" for file in plan.files]
    lines.append(f"{len(plan.files)} files, {told_size(plan.total)}")
    if plan.left_out:
        lines.append(f"left out: {', '.join(plan.left_out)}")
    return "\n".join([*lines, *(f"warning: {each}" for each in plan.warnings)])


def refuse(folder: Path, reasons: Sequence[str], remedy: str) -> None:
    """Raise RunError where anything must not leave."""
    if reasons:
        shown = "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")
        raise RunError(
            f"{folder} is not published: {shown}\n    why:    what was sent cannot be taken back\n    to do:  {remedy}"
        )
