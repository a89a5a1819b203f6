"""Both runners, and any cut of the rows into files, decide the same."""

import hashlib
import json
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BUILD = """
import sys
from pathlib import Path
from poise.curate import load
from poise.curate.curation import Curation
from poise.curate.pipeline import curate
raw, out, engine, size = sys.argv[1:]
load.ROWS_PER_FILE = int(size)
steps = ("exact", "near_duplicates", "quality")
curate(Curation(out=out, engine=engine, sources=({"path": raw, "name": "raw"},), steps=steps))
"""


def kept(out: Path) -> str:
    """Hash the sorted ids of what is kept."""
    import pyarrow.parquet as pq

    ids = sorted(row_id for file in out.glob("data/*/*.parquet") for row_id in pq.read_table(file)["id"].to_pylist())
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def build(folder: Path, rows: int, engine: str, files: int, seed: int) -> str:
    draw = random.Random(0)
    words = [f"w{number}" for number in range(500)]
    texts = [" ".join(draw.choices(words, k=30)) for _ in range(rows)]
    for index in range(0, rows, 5):
        texts[index] = f"v{index} {texts[index // 2]}"
    random.Random(seed).shuffle(texts)
    raw, out = folder / f"raw-{seed}.jsonl", folder / f"{engine}-{files}-{seed}"
    raw.write_text("".join(json.dumps({"prompt": text[:60], "completion": text}) + "\n" for text in texts))
    command = [sys.executable, "-c", BUILD, str(raw), str(out), engine, str(-(-rows // files))]
    subprocess.run(command, check=True, capture_output=True)
    return kept(out)


def test_shuffled_rows_in_one_or_seven_files_keep_the_same_ids(tmp_path: Path) -> None:
    assert build(tmp_path, 600, "native", 1, 1) == build(tmp_path, 600, "native", 7, 2)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'poise[cluster]'")
@pytest.mark.timeout(1200)
def test_native_and_ray_keep_the_same_ids_of_100_000_shuffled_rows(tmp_path: Path) -> None:
    found = {
        (engine, files): build(tmp_path, 100_000, engine, files, seed)
        for seed, (engine, files) in enumerate((engine, files) for engine in ("native", "ray") for files in (1, 2, 7))
    }
    assert len(set(found.values())) == 1, found
