"""Licences as cards declare them, and what they forbid together. A tool sees little of it: it says what it sees."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.names import load_named, names_in

CATALOG = "poise.catalog"
CARD, CARD_BYTES = "README.md", 2**20
NONCOMMERCIAL = re.compile(r"(?:^|[-_ .(])nc(?:[-_ .)]|$)|non-?commercial|research[- ]only", re.IGNORECASE)
NO_DERIVATIVES = re.compile(r"(?:^|[-_ .])nd(?:[-_ .]|$)|no-?derivatives", re.IGNORECASE)
SHARE_ALIKE = re.compile(r"(?:^|[-_ .])sa(?:[-_ .]|$)|^a?gpl|share-?alike", re.IGNORECASE)


@dataclass(frozen=True)
class Licence:
    """A licence, and where it was read."""

    name: str
    read_in: str


def declared(name: str, *, kind: str = "model") -> Licence | None:
    """Return what the card of a model or dataset declares, read on this machine: in its folder, or the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    card = Path(name) / CARD
    if not Path(name).exists():
        try:
            found = try_to_load_from_cache(name, CARD, repo_type=kind)
        except HFValidationError:
            return None
        card = Path(found) if isinstance(found, str) else card
    values = front_matter(card)
    licence = values.get("license")
    if licence == "other" and values.get("license_name"):
        licence = values["license_name"]
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    return Licence(licence, "its card") if isinstance(licence, str) and licence else None


def front_matter(card: Path) -> Mapping[str, Any]:
    """Read the YAML at the head of a card; empty where there is none that can be read."""
    from huggingface_hub import metadata_load

    if not card.is_file() or card.stat().st_size > CARD_BYTES:
        return {}
    try:
        return metadata_load(card) or {}
    except Exception:  # a card that is no YAML declares nothing
        return {}


def of_dataset(name: str) -> Licence | None:
    """Return a dataset's licence: as the catalog has it, else as its card on this machine says."""
    for each in names_in(CATALOG):
        about = getattr(load_named(CATALOG, each), "ABOUT", None)
        if about is not None and name in (each, about.hub):
            return Licence(about.licence, "poise's catalog")
    return declared(name, kind="dataset")


def conflicts(chosen: str, base: Licence | None, datasets: Mapping[str, Licence | None]) -> list[str]:
    """Say which licences forbid that what came of them is published under `chosen`, each in a sentence."""
    found: list[str] = []
    if base is not None:
        if NO_DERIVATIVES.search(base.name):
            found.append(f"the base is under {base.name}, which allows no changed model to be given on")
        found += _against(chosen, "the base", base)
    for name, licence in datasets.items():
        if licence is not None:
            found += _against(chosen, name, licence)
    return found


def _against(chosen: str, what: str, licence: Licence) -> list[str]:
    found: list[str] = []
    if NONCOMMERCIAL.search(licence.name) and not NONCOMMERCIAL.search(chosen):
        found.append(f"{what} is under {licence.name}, which allows no commercial use, and {chosen} does")
    if what == "the base" and SHARE_ALIKE.search(licence.name) and chosen != licence.name:
        found.append(f"{what} is under {licence.name}, which must be kept, and not {chosen}")
    return found
