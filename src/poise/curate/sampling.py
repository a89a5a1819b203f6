"""Sample single sources, after every step: by hash of the id, so that one source never reshuffles another."""

from collections.abc import Sequence

import numpy as np

from poise.curate.curation import SourceEntry
from poise.curate.rows import Decisions, Rows, drops_of
from poise.curate.selection import sample


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
