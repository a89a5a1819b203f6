"""The arm of datatrove: its four MinHash stages, signatures, buckets, cluster and filter, each by one worker.

16 buckets of 8 hashes, word 3-grams by its own tokenizer of English; what the filter leaves is written. No pair is
verified.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any

from curation.clusters import Clusters
from curation.plan import Job
from curation.score import Found

BUCKETS = 16
PACKAGES = ("datatrove", "spacy", "xxhash", "numpy")


def load(job: Job) -> Any:
    """Import it, and spaCy, which it imports when it meets the first text."""
    import spacy
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import minhash
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    spacy.blank("en")
    return LocalPipelineExecutor, minhash, JsonlReader, JsonlWriter


def run(job: Job, ready: Any) -> None:
    """Run the stages one after another."""
    executor, minhash, reader, writer = ready
    config = minhash.MinhashConfig(n_grams=3, num_buckets=BUCKETS, hashes_per_bucket=8)
    signed, buckets, removed = (str(job.work / name) for name in ("signatures", "buckets", "removed"))
    stages = [
        ([reader(str(job.raw)), minhash.MinhashDedupSignature(output_folder=signed, config=config)], 1),
        ([minhash.MinhashDedupBuckets(input_folder=signed, output_folder=buckets, config=config)], BUCKETS),
        ([minhash.MinhashDedupCluster(input_folder=buckets, output_folder=removed, config=config)], 1),
        (
            [
                reader(str(job.raw)),
                minhash.MinhashDedupFilter(input_folder=removed),
                writer(str(job.work / "kept"), compression=None),
            ],
            1,
        ),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        logs = str(job.work / f"logs-{number}")
        executor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=logs).run()


def found(job: Job, done: None) -> Found:
    """Connect the pairs that the second stage wrote, file and row of both; kept is what the last one wrote."""
    clusters = Clusters(job.cell.rows)
    for file in (job.work / "buckets").rglob("*.dups"):
        for _, one, _, other in struct.iter_unpack("<4I", file.read_bytes()):
            clusters.join(one, other)
    kept = {int(json.loads(line)["id"]) for line in _written(job)}
    return Found(clusters.labels(), frozenset(range(job.cell.rows)) - kept)


def _written(job: Job) -> Iterator[str]:
    for file in (job.work / "kept").rglob("*.jsonl"):
        yield from file.read_text().splitlines()
