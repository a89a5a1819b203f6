"""The record of an export rehearsal: what an exported model did beside the model that it was made from.

    rehearsal.json   answers and next tokens that agree, perplexity, stop rate, template, hashes of the exported files

It stands beside the exported files. Whatever hands them on asks `check_rehearsal`; nothing here loads a model.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from poise.errors import DivergenceError, RunError
from poise.run import file_sha256, write_whole

REHEARSAL = "rehearsal.json"
WEIGHTS = (".gguf", ".safetensors")


@dataclass(frozen=True)
class Tolerance:
    """How far an exported model may be from the one it was made from; templates and stop tokens must be equal."""

    agreement: float
    """Least share of tokens at which both take the same next one."""
    perplexity: float
    """Most that the perplexity may grow, as a share of what it was."""
    stop_rate: float = 0.1
    """Most that the share of answers may fall that end by themselves."""


@dataclass(frozen=True)
class Rehearsal:
    """What was seen."""

    format: str
    model: str
    """What was exported."""
    created: str
    rehearsed_by: str
    """What ran the exported files: a package and its version."""
    prompts: int
    tokens: int
    """Tokens of the model's own answers, at each of which both were asked for the next one."""
    agreement: float
    """Share of them at which both took the same."""
    same_answers: int
    """Greedy answers that are equal to the last token."""
    perplexity: tuple[float, float]
    """Before and after."""
    perplexity_over: str
    """What it was measured on, as a phrase."""
    stop_rate: tuple[float, float]
    """Share of answers that ended by themselves, before and after."""
    same_templates: int
    """Prompts that both sides render to the same tokens."""
    stop_tokens: tuple[list[str], list[str]]
    """Where generation must stop, and which of these the exported files stop at."""
    tolerance: Tolerance
    files: dict[str, str]
    """SHA-256 of each exported file, by its path within the folder."""
    notes: list[str] = field(default_factory=list[str])
    answers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Each prompt with both answers."""

    def faults(self) -> list[str]:
        """Say in a sentence each what is outside of the tolerance."""
        return list(self._faults())

    def _faults(self) -> Iterator[str]:
        allowed = self.tolerance
        before, after = self.perplexity
        if not self.agreement >= allowed.agreement:
            yield f"the next token agrees at {self.agreement:.2%} of {self.tokens:,}, at least {allowed.agreement:.2%}"
        if not after <= before * (1 + allowed.perplexity):
            yield f"perplexity grows from {before:.4g} to {after:.4g}, at most {allowed.perplexity:.1%} is allowed"
        if not self.stop_rate[1] >= self.stop_rate[0] - allowed.stop_rate:
            yield f"{self.stop_rate[1]:.0%} of the answers stop by themselves, {self.stop_rate[0]:.0%} did before"
        if self.same_templates < self.prompts:
            different = self.prompts - self.same_templates
            yield f"{different} of {self.prompts} prompts are other tokens for what runs the exported files"
        if missing := [token for token in self.stop_tokens[0] if token not in self.stop_tokens[1]]:
            yield f"the exported files do not stop at {', '.join(missing)}"

    def write(self, folder: Path) -> None:
        """Write it beside the files that it is about."""
        told = asdict(self) | {"within_tolerance": not self.faults(), "faults": self.faults()}
        write_whole(folder / REHEARSAL, json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def read_rehearsal(folder: Path) -> Rehearsal | None:
    """Return the record in a folder, None where there is none; RunError where it cannot be read."""
    file = folder / REHEARSAL
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        del found["within_tolerance"], found["faults"]
        found["tolerance"] = Tolerance(**found["tolerance"])
        for pair in ("perplexity", "stop_rate", "stop_tokens"):
            one, other = found[pair]
            found[pair] = (one, other)
        return Rehearsal(**found)
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{file} is no rehearsal: {error}\n    to do:  make it again with poise quantize") from error


def check_rehearsal(folder: Path) -> Rehearsal | None:
    """Return the record of the exported files in a folder; None where nothing in it is quantized.

    Raises:
        RunError: quantized files were not rehearsed, or are no longer those that were.
        DivergenceError: they are outside of the tolerance.
    """
    found = read_rehearsal(folder)
    if found is None:
        if _is_quantized(folder):
            raise RunError(
                f"{folder} is quantized and was not rehearsed\n"
                "    why:    nobody has seen whether it answers as the model that it was made from\n"
                "    to do:  make it with poise quantize"
            )
        return None
    _refuse_changed(folder, found)
    if faults := found.faults():
        raise DivergenceError(
            f"{folder} is outside of its tolerance: {'; '.join(faults)}\n"
            f"    to do:  take more bits, or look at both answers in {folder / REHEARSAL}"
        )
    return found


def _is_quantized(folder: Path) -> bool:
    if any(folder.glob("*.gguf")):
        return True
    config = folder / "config.json"
    return config.is_file() and "quantization_config" in json.loads(config.read_text(encoding="utf-8"))


def _refuse_changed(folder: Path, found: Rehearsal) -> None:
    """Refuse a folder whose files are other ones than those that were rehearsed, or that has gained weights."""
    here = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in WEIGHTS}
    changed = [name for name, digest in found.files.items() if not _has(folder / name, digest)]
    changed += sorted(here - set(found.files))
    if changed:
        raise RunError(
            f"{folder / changed[0]} is not what was rehearsed ({len(changed)} of {len(found.files)} files)\n"
            "    why:    what the rehearsal says is about other files\n"
            "    to do:  make the folder again with poise quantize --overwrite"
        )


def _has(path: Path, digest: str) -> bool:
    return path.is_file() and file_sha256(path) == digest
