"""The dataset card: what is in it, where it came from, under which licences, and what was left out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from poise.curate.curation import Curation
from poise.curate.entry import SourceEntry

StageFacts = tuple[str, Path, dict[str, Any]]


def card(
    curation: Curation,
    counts: Mapping[str, Any],
    written: Mapping[str, Mapping[str, int]],
    stages: Sequence[StageFacts],
    charts: Sequence[tuple[str, str]] = (),
) -> str:
    """Write README.md with the front matter that the Hub reads; charts are (file, what it shows)."""
    title = curation.title or "A curated dataset"
    parts = [
        _front_matter(written),
        f"# {title}",
        _summary(counts, written),
        *(f"![{told.replace('[', '(').replace(']', ')')}]({file})" for file, told in charts),
        "## Sources",
        _table(("source", "dataset", "licence", "confidence", "rows in", "kept"), _sources(curation, counts)),
        *_formats(counts),
        *_risks(curation),
        "## What was left out",
        _table(("stage", "reason", "rows"), _dropped(counts)),
        "Every one of these rows is in `ledger.parquet`, with its source, its place there and the evidence.",
        "## Steps",
        "\n".join(_steps(curation, stages)),
        "The recipe, the stages and the SHA-256 of every file are in `curation.json`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(written: Mapping[str, Mapping[str, int]]) -> str:
    lines = ["---", "configs:"]
    for kind, splits in written.items():
        lines += [f"- config_name: {kind}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: data/{kind}/{split}-*.parquet"]
    return "\n".join([*lines, "---"])


def _summary(counts: Mapping[str, Any], written: Mapping[str, Mapping[str, int]]) -> str:
    sizes = "; ".join(
        f"{kind}: " + ", ".join(f"{rows:,} {split}" for split, rows in splits.items())
        for kind, splits in written.items()
    )
    return (
        f"{counts['in']:,} rows of {len(counts['by_source'])} sources gave {counts['made']:,} examples, of which "
        f"{counts['used']:,} are kept. Written: {sizes}."
    )


def _sources(curation: Curation, counts: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    for entry in curation.sources:
        found = counts["by_source"][entry.label]
        about = entry.about
        licence = about.licence if about else "not known"
        yield entry.label, _dataset(entry), licence, entry.trust, f"{found['in']:,}", f"{found['used']:,}"


def _dataset(entry: SourceEntry) -> str:
    about = entry.about
    if about is None:
        return Path(str(entry.path)).name
    at = f" at {entry.revision}" if entry.revision else ""
    return f"[{about.hub}](https://huggingface.co/datasets/{about.hub}){at}"


def _formats(counts: Mapping[str, Any]) -> list[str]:
    """Say in which prompt formats rows are written, where that is settled here."""
    if "formats" not in counts:
        return []
    found = counts["formats"]
    rows = ((name, f"{count:,}") for name, count in found["written"].items())
    grown = f"{found['rows']:,} rows became {found['after_expansion']:,}, one for each answer. "
    told = (
        "`chat_template` says how a row's turns are written; `tokenizer` is the template of the model that is trained."
    )
    own = f" {found['kept_their_own']:,} rows had a format before and keep it." if found["kept_their_own"] else ""
    split = "Test rows were split off before, so no question is on both sides in two formats."
    return [
        "## Prompt formats",
        f"{grown if found['made_by_expansion'] else ''}{told}{own} {split}",
        _table(("chat_template", "rows written"), rows),
    ]


def _risks(curation: Curation) -> list[str]:
    told = [f"- {entry.label}: {entry.about.risk}" for entry in curation.sources if entry.about and entry.about.risk]
    return ["## Risks", "\n".join(told)] if told else []


def _dropped(counts: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    for told, rows in counts["dropped"].items():
        stage, _, reason = told.partition(": ")
        yield stage, reason, f"{rows:,}"


def _steps(curation: Curation, stages: Sequence[StageFacts]) -> Iterable[str]:
    facts = {name: found.get("facts") for name, _, found in stages}
    for name, step in curation.named_steps():
        keys = json.dumps(step.model_dump(mode="json"), sort_keys=True)
        found = f": {json.dumps(facts[name], sort_keys=True)[:500]}" if facts.get(name) else ""
        yield f"- `{name}` with `{keys}`{found}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
