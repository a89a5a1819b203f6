"""Look at a dataset: its rows, their lengths, what was dropped and why, duplicates and examples, for a person.

A folder that `poise curate` wrote is read in batches and brings its ledger; any other dataset is loaded whole.
"""

from pathlib import Path
from typing import Any

from poise import progress
from poise.curate.trace import manifest_of
from poise.curate.write import MANIFEST
from poise.look.curated import curated_tables
from poise.look.examples import Chosen
from poise.look.ledger import ledger_of
from poise.look.loaded import loaded_tables
from poise.look.measure import Lengths
from poise.look.page import page
from poise.look.rows import Rows
from poise.run import write_whole


def look(path: Path, *, tokenizer: str | None = None, out: Path | None = None) -> dict[str, Any]:
    """Write the page of a dataset and return its facts; `out` is PATH/look.html, or NAME-look.html here, by default.

    Raises RunError for a curated folder that cannot be read, DataError for another dataset, ModelError for a tokenizer.
    """
    curated = (path / MANIFEST).is_file()
    manifest = manifest_of(path) if curated else {}
    tables, ledger = (curated_tables(path), ledger_of(path, manifest)) if curated else loaded_tables(path)
    total = sum(table.rows for table in tables)
    rows, lengths, chosen = Rows(), Lengths(tokenizer, total), Chosen()
    with progress.stage("look", total) as told_of:
        for batch in (batch for table in tables for batch in table.batches()):
            for each in (rows, lengths, chosen):
                each.add(batch)
            told_of.advance(told_of.done + len(batch))
    name = path.resolve().name if path.exists() else str(path)
    target = out or (path / "look.html" if curated else Path(f"{path.resolve().name}-look.html"))
    facts = {
        "dataset": name,
        "curated": curated,
        **rows.facts(),
        **lengths.facts(_step_tokens(manifest)),
        "examples": chosen.facts(rows.sources()),
        **ledger,
        "page": str(target),
    }
    write_whole(target, page(facts))
    return facts


def _step_tokens(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of the recipe's step `tokens`."""
    steps: list[Any] = manifest.get("recipe", {}).get("steps") or []
    return next((step["tokens"] or {} for step in steps if isinstance(step, dict) and "tokens" in step), {})
