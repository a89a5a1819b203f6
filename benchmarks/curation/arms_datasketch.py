"""The arm of datasketch: MinHash in bulk, 128 permutations, an LSH index of 16 bands of 8, filled row by row.

Word 3-grams of lower-cased text. No pair is verified; 16 bands of 8 join few that are unlike.
"""

import json
from collections.abc import Iterator
from typing import Any

from curation.clusters import Clusters
from curation.plan import Job
from curation.score import Found, one_of_each

PERMUTATIONS, BANDS, BAND_ROWS, NGRAM = 128, 16, 8, 3
PACKAGES = ("datasketch", "numpy")


def load(job: Job) -> Any:
    """Import it."""
    import datasketch

    return datasketch


def run(job: Job, datasketch: Any) -> list[int]:
    """Return the label of every row."""
    index = datasketch.MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, BAND_ROWS))
    clusters = Clusters(job.cell.rows)
    for row, signature in enumerate(datasketch.MinHash.bulk(_shingles(job), num_perm=PERMUTATIONS)):
        for other in index.query(signature):
            clusters.join(row, other)
        index.insert(row, signature)
    return clusters.labels()


def found(job: Job, labels: list[int]) -> Found:
    """Keep one of each cluster."""
    return one_of_each(labels)


def _shingles(job: Job) -> Iterator[list[bytes]]:
    with job.file.open() as file:
        for line in file:
            words = json.loads(line)["text"].lower().split()
            grams = range(max(1, len(words) - NGRAM + 1))
            yield list({" ".join(words[start : start + NGRAM]).encode() for start in grams})
