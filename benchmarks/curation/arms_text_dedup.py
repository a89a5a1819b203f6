"""The arm of text-dedup: the functions of `text_dedup.minhash` in the order of its main program, in one process each.

128 permutations in 16 bands of 8, word 3-grams, pairs not verified, which is its default. The main program reads a
configuration from the working directory; only the parts of it that the functions look at are made here.
"""

from types import SimpleNamespace
from typing import Any

from curation.plan import Job
from curation.score import Found, one_of_each

PACKAGES = ("text-dedup", "datasets", "polars", "polars-grouper", "numpy")
THRESHOLD = 0.7
"""Of a similarity that is only looked at where pairs are verified."""


def load(job: Job) -> Any:
    """Import it."""
    import datasets
    from text_dedup import minhash
    from text_dedup.config import MinHashAlgorithmConfig

    datasets.disable_progress_bars()
    algorithm = MinHashAlgorithmConfig(
        algorithm_name="minhash", text_column="text", num_proc=1, num_perm=128, bands=16, rows=8, ngram_size=3,
        threshold=THRESHOLD, check_false_positive=False,
    )  # fmt: skip
    return minhash, SimpleNamespace(algorithm=algorithm, output=SimpleNamespace(skip_filtering=False))


def run(job: Job, ready: Any) -> dict[int, int]:
    """Return the cluster of every row that is in one."""
    import datasets

    minhash, config = ready
    index = config.algorithm.internal_index_column
    rows = datasets.load_dataset("json", data_files=str(job.file), split="train", cache_dir=str(job.work))
    rows = rows.map(lambda _, row: {index: row}, with_indices=True, num_proc=1)
    rows = rows.filter(config.algorithm.get_filtering_func(), input_columns=["text"], num_proc=1)
    clusters = minhash.cluster(config, minhash.fingerprint(config, rows))
    minhash.remove_duplicates(config, minhash.assign(config, rows, clusters))
    return clusters


def found(job: Job, clusters: dict[int, int]) -> Found:
    """Keep one of each cluster; version 0.4.1 itself may remove all rows of one whose pairs are not verified (#129)."""
    return one_of_each([job.cell.rows + clusters[row] if row in clusters else row for row in range(job.cell.rows)])
