"""A build that was killed and run again gives the same bytes as one that was not."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """\
out: {out}
sources:
  - {{path: {raw}, name: a}}
  - {{path: {raw}, name: b, repeat: 2}}
steps:
  - exact: {{key: row}}
  - quality
split: {{test: 0.1}}
"""


def command(recipe: Path) -> list[str]:
    return [sys.executable, "-m", "poise", "curate", str(recipe)]


def files(out: Path) -> dict[str, bytes]:
    """Everything a user gets, but the manifest, which holds times."""
    kept = [path for path in out.rglob("*") if path.is_file() and not path.relative_to(out).parts[0].startswith(".")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in kept if path.name != "curation.json"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], float]:
    """A folder with raw rows, what an undisturbed build of them gives, and the seconds it takes."""
    folder = tmp_path_factory.mktemp("kill")
    draw = random.Random(0)
    rows = [
        {
            "prompt": f"question {draw.randrange(1500)}",
            "completion": " ".join(f"w{draw.randrange(99)}" for _ in range(40)),
        }
        for _ in range(3000)
    ]
    (folder / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(out=folder / "out", raw=folder / "raw.jsonl"))
    began = time.monotonic()
    subprocess.run(command(recipe), check=True, capture_output=True)
    return folder, files(folder / "out"), time.monotonic() - began


def killed_and_run_again(folder: Path, moment: int, seconds: float) -> dict[str, bytes]:
    out = folder / f"killed-{moment}"
    recipe = folder / f"recipe-{moment}.yaml"
    recipe.write_text(RECIPE.format(out=out, raw=folder / "raw.jsonl"))
    process = subprocess.Popen(command(recipe), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.Random(moment).uniform(0.2, 1.0) * seconds)
    process.kill()
    process.wait()
    subprocess.run(command(recipe), check=True, capture_output=True)
    return files(out)


@pytest.mark.parametrize("moment", range(4))
def test_a_killed_build_goes_on_to_the_same_bytes(undisturbed, moment: int) -> None:
    folder, expected, seconds = undisturbed
    assert set(expected) >= {"data/conversation/train-00000.parquet", "ledger.parquet", "ledger.json", "README.md"}
    assert killed_and_run_again(folder, moment, seconds) == expected


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(4, 34))
def test_thirty_killed_builds_go_on_to_the_same_bytes(undisturbed, moment: int) -> None:
    folder, expected, seconds = undisturbed
    assert killed_and_run_again(folder, moment, seconds) == expected
