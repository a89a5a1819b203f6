"""The datasets behind a model: rows of each source, what became of them, and under which licence they are."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from poise.names import load_named, names_in
from poise.publish.licences import CATALOG, Licence
from poise.publish.lineage import CURATION, Lineage

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
LONGEST = 8
"""Reasons that are told of a source."""


@dataclass(frozen=True)
class Source:
    """One dataset in one stage."""

    stage: str
    name: str
    hub: str
    """Its id on the Hub; empty where it is a file."""
    licence: Licence | None
    rows_in: int
    used: int
    left_out: str
    """Why rows were left out, with how many for each reason."""
    risk: str = ""


def sources_of(lineage: Lineage, licence_of: Callable[[str], Licence | None]) -> list[Source]:
    """List the sources of every curation and training, each once."""
    found: list[Source] = []
    for folder in dict.fromkeys(lineage.curations.values()):
        found += _curated(folder, licence_of)
    for stage in lineage.trainings:
        ledger = stage.ledger.get("by_source") or {}
        for name, counts in ledger.items():
            if name in lineage.curations:
                licence, hub = None, ""
            else:
                licence, hub = licence_of(name), name if is_hub_id(name) else ""
            found.append(_source(stage.name, name, hub, licence, counts))
    return found


def _curated(folder: Path, licence_of: Callable[[str], Licence | None]) -> Iterator[Source]:
    manifest = json.loads((folder / CURATION).read_text(encoding="utf-8"))
    counts = json.loads((folder / "ledger.json").read_text(encoding="utf-8")).get("by_source", {})
    entries = {_label(entry): entry for entry in manifest.get("recipe", {}).get("sources") or []}
    for label, found in counts.items():
        entry = entries.get(label, {})
        about: Any = None
        if entry.get("source") in names_in(CATALOG):
            about = load_named(CATALOG, entry["source"]).ABOUT
        name = about.hub if about else str(entry.get("path") or label)
        yield _source(
            "curate", name, about.hub if about else "", licence_of(name), found, (about.risk or "") if about else ""
        )


def _label(entry: Mapping[str, Any]) -> str:
    """Return what a curation calls a source: its name, else the catalog's, else the last part of a path."""
    path = str(entry.get("path") or "")
    return str(entry.get("name") or entry.get("source") or (Path(path).name if Path(path).exists() else path))


def _source(
    stage: str, name: str, hub: str, licence: Licence | None, counts: Mapping[str, Any], risk: str = ""
) -> Source:
    dropped = cast("dict[str, int]", counts.get("dropped") or {})
    told = [f"{reason}: {rows:,}" for reason, rows in sorted(dropped.items(), key=lambda each: -each[1])]
    more = [f"and {len(told) - LONGEST} more reasons"] if len(told) > LONGEST else []
    used = int(counts.get("used") or 0)
    return Source(
        stage, name, hub, licence, int(counts.get("in") or 0), used, "; ".join([*told[:LONGEST], *more]), risk
    )


def is_hub_id(name: str) -> bool:
    """Whether a name is one of the Hub's, and no folder here."""
    return bool(HUB_ID.fullmatch(name)) and not Path(name).exists()
