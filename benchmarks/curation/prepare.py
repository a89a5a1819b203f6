"""Write what every arm of one number of rows reads: the raw file, what was planted, the rows as poise stores them."""

import json
from importlib.metadata import version
from typing import Any

from curation.plan import Job

SOURCE = "rows"


def prepare(job: Job, seed: int) -> dict[str, Any]:
    """Fill the folder; returns what the table says of the rows."""
    from curation.synthetic import planted
    from poise.curate.entry import SourceEntry
    from poise.curate.load import load_source

    rows = planted(job.cell.rows, seed)
    job.raw.mkdir()
    with job.file.open("w") as file:
        file.writelines(json.dumps({"id": str(row), "text": text}) + "\n" for row, text in enumerate(rows.texts))
    job.planted.write_text(json.dumps({"kinds": rows.kinds, "originals": rows.originals.tolist()}))
    job.stored.mkdir()
    load_source(SourceEntry(path=str(job.file), name=SOURCE), 0, seed, job.stored)
    return {
        "rows": len(rows.texts),
        "words": sum(text.count(" ") + 1 for text in rows.texts),
        "bytes": job.file.stat().st_size,
        "numpy": version("numpy"),
    }
