"""The arm of bagel: the way jondurbin/bagel removes duplicates, in words of our own.

Each source's rows are iterated one by one; the UUID of a row's text is looked up in a set that all sources share; what
is new goes into a list of dictionaries, which becomes a Dataset. The file is opened before the clock starts, and
nothing is written.
"""

import json
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from curation.plan import Job
from curation.score import Found, one_of_each

PACKAGES = ("datasets", "pyarrow")


def load(job: Job) -> Any:
    """Open the raw file as a Dataset."""
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset("json", data_files=str(job.file), split="train", cache_dir=str(job.work))


def run(job: Job, rows: Any) -> int:
    """Return how many rows are kept."""
    from datasets import Dataset

    known: set[str] = set()
    kept: list[dict[str, str]] = []
    for row in rows:
        uid = str(uuid5(NAMESPACE_OID, row["text"]))
        if uid in known:
            continue
        known.add(uid)
        kept.append({"id": uid, "source": "rows", "text": row["text"]})
    return len(Dataset.from_list(kept))


def found(job: Job, kept: int) -> Found:
    """Label every row by the first of its text."""
    first: dict[str, int] = {}
    with job.file.open() as file:
        labels = [first.setdefault(json.loads(line)["text"], row) for row, line in enumerate(file)]
    if len(first) != kept:
        raise ValueError(f"{kept} rows were kept of {len(first)} different texts")
    return one_of_each(labels)
