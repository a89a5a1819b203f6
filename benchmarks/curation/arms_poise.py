"""The arms of poise: a step on stored rows, both steps on them, and the whole road from the raw file to the dataset.

The step `exact` groups rows by a key that is computed when they are loaded. `poise-keys` computes the key of every row
again, from its text, and then does what the step does: all that bagel's loop does, and folding case and spacing.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from curation.clusters import Clusters
from curation.plan import Job
from curation.prepare import SOURCE
from curation.score import Found

STEPS = {
    ("exact", "poise"): ["exact"],
    ("exact", "poise-road"): ["exact"],
    ("minhash", "poise"): ["near_duplicates"],
    ("minhash", "poise-after-exact"): ["exact", "near_duplicates"],
    ("minhash", "poise-road"): ["exact", "near_duplicates"],
}
PACKAGES = ("poise", "daft", "pyarrow", "numpy")


def load(job: Job) -> Any:
    """Import what the run imports, so that the clock does not see it."""
    for name in (
        "daft",
        "poise.curate.pipeline",
        "poise.curate.steps.exact",
        "poise.curate.steps.near_duplicates",
        "pandas",
    ):
        import_module(name)
    if job.cell.arm == "poise-road":
        return None
    from poise.curate.engine import Engine

    return Engine()


def run(job: Job, engine: Any) -> Any:
    """Return what is dropped: (id, reason, evidence, other)."""
    if job.cell.arm == "poise-road":
        return _road(job)
    import pyarrow as pa

    from poise.curate.rows import DROPS, Rows
    from poise.curate.step import load_step

    if job.cell.arm == "poise-keys":
        return _keys_and_losers(job, engine)
    files, drops = _files(job), DROPS.empty_table()
    for name in STEPS[job.cell.task, job.cell.arm]:
        rows = Rows(engine, files, drops.select(["id"]), job.cell.rows - len(drops))
        drops = pa.concat_tables([drops, load_step(name, {}).decide(rows).drops])
    return drops


def _keys_and_losers(job: Job, engine: Any) -> Any:
    import pyarrow as pa

    from poise.curate.rows import exact_key, example_of, question_key, task_of
    from poise.curate.steps.exact import losers

    stored = engine.read(_files(job), ["id", "rank", "kind", "content"])
    ids, kinds, contents = (stored[name].to_pylist() for name in ("id", "kind", "content"))
    examples = map(example_of, kinds, contents)
    keys = [exact_key(task_of(each), question_key(each) or row) for row, each in zip(ids, examples, strict=True)]
    lost, kept = losers(stored.select(["rank"]).append_column("key", pa.array(keys, pa.binary(16))))
    return pa.table({"id": lost, "other": kept})


def _road(job: Job) -> Any:
    import pyarrow.parquet as pq

    from poise.curate.curation import Curation
    from poise.curate.pipeline import curate

    steps = STEPS[job.cell.task, job.cell.arm]
    source = {"path": str(job.file), "name": SOURCE}
    curate(Curation(out=str(job.work), sources=[source], steps=steps))  # pyright: ignore[reportArgumentType]
    return pq.read_table(job.work / "ledger.parquet")


def found(job: Job, drops: Any) -> Found:
    """Say which rows were dropped, and, of the step alone, what it connects."""
    import pyarrow.parquet as pq

    stored = pq.read_table(_files(job), columns=["id", "place"]).to_pydict()
    rows = {row_id: int(place.rpartition(":")[2]) - 1 for row_id, place in zip(*stored.values(), strict=True)}
    dropped = [rows[row_id] for row_id in drops["id"].to_pylist()]
    if job.cell.task == "exact":
        labels = list(range(job.cell.rows))
        for row, other in zip(dropped, drops["other"].to_pylist(), strict=True):
            labels[row] = rows[other]
        return Found(labels, frozenset(dropped))
    return Found(_connected(job) if job.cell.arm == "poise" else None, frozenset(dropped))


def _files(job: Job) -> list[Path]:
    return sorted(job.stored.glob("rows-*.parquet"))


def _connected(job: Job) -> list[int]:
    """Compute the verified pairs of all rows again, because decisions name only one pair of each dropped row."""
    from poise.curate.minhash import candidate_pairs, signatures, text_array, verified, words
    from poise.curate.steps.near_duplicates import JACCARD, SEED, NearDuplicates

    step = NearDuplicates()
    with job.file.open() as file:
        texts = text_array([words(json.loads(line)["text"]) for line in file])
    signed = signatures(texts, ngram=step.ngram, permutations=step.bands * step.rows, seed=SEED)
    candidates = candidate_pairs(signed, bands=step.bands, rows=step.rows)
    pairs, _ = verified(candidates.pairs, texts, ngram=step.ngram, threshold=JACCARD)
    clusters = Clusters(job.cell.rows)
    for one, other in pairs.tolist():
        clusters.join(one, other)
    return clusters.labels()
