"""What single sources ask for after every step: a test split held out whole, or a sample by hash of the id.

By hash, so that one source never reshuffles another.
"""

from collections.abc import Sequence

import numpy as np

from poise.curate.entry import SourceEntry
from poise.curate.rows import Decisions, Rows, drops_of
from poise.curate.selection import sample


def hold_out(rows: Rows, labels: Sequence[str]) -> Decisions:
    """Drop the rows that open with a question of a source that is held out, whatever follows it."""
    table = rows.table("source", "opening")
    sources, questions, ids = (table[name].to_pylist() for name in ("source", "opening", "id"))
    held = {
        question: row_id for source, question, row_id in zip(sources, questions, ids, strict=True) if source in labels
    }
    drops = [
        (row_id, "asks a held-out question", "", held[question])
        for source, question, row_id in zip(sources, questions, ids, strict=True)
        if source not in labels and question in held
    ]
    return Decisions(drops_of(drops), {"questions": len(held)})


def sample_sources(rows: Rows, entries: Sequence[SourceEntry], seed: int) -> Decisions:
    """Keep `count` or `fraction` of each entry's rows, in the shares of its strata where it has them."""
    table = rows.table("source", "stratum")
    sources = np.array(table["source"].to_pylist(), dtype=object)
    ids, strata = np.array(table["id"].to_pylist(), dtype=object), table["stratum"].to_pylist()
    drops: list[tuple[str, str, str, str]] = []
    for entry in entries:
        own = np.flatnonzero(sources == entry.label)
        groups = [str(strata[index]) for index in own] if entry.stratify is not None else None
        kept = sample(ids[own].tolist(), count=entry.count, fraction=entry.fraction, seed=seed, strata=groups)
        said = f"count {entry.count}" if entry.count is not None else f"fraction {entry.fraction}"
        drops += [(str(ids[index]), "not sampled", said, "") for index in own[~kept]]
    return Decisions(drops_of(drops))
