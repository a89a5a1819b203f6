"""Exact and near-duplicates, poise against bagel's loop, datasketch, text-dedup and datatrove: same rows, in one run.

    python benchmarks/bench_curation.py --environments ../peers                    100,000 rows, all peers
    python benchmarks/bench_curation.py --rows 1000000 --peers none                what a million rows cost poise
    python benchmarks/bench_curation.py --only minhash --peers datasketch --json

Every arm is a process of its own that reads one file of rows with planted copies (curation/synthetic.py), timed after
its imports. Peers have one thread or worker; all are compared by rows per processor second, children included. Slow
peers get fewer rows, and poise's step is then measured on as few, too: both ratios are given. Each peer but bagel's
loop has a virtual environment, made under --environments with pip where it is missing; text-dedup needs a python3.12
on PATH. What is measured, and how, stands in curation/measure.py and curation/score.py; the arms in
curation/arms_*.py. An arm that cannot run is told with its reason.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from choices import among
from curation.environments import UnavailableError, python_of
from curation.measure import machine
from curation.plan import ARMS, PEERS, Cell, Job, plan
from curation.processes import measure_apart, prepare_apart, work
from curation.table import Line, as_markdown, figures, one_line
from preference.table import checked


def main() -> None:
    """Measure every cell of the plan and print the table."""
    options = _options()
    if options.worker:
        work(Path(options.worker))
        return
    about = circumstances()
    cells = plan(options.only, options.peers, options.rows, options.peer_rows)
    lines = measure_all(cells, Path(options.environments), options.seed)
    if options.json:
        found = figures(lines)
        told = {"cells": lines, "figures": found, "asked": checked(options.ask, found)}
        print(json.dumps({"benchmark": "curation", **about, **told}))
    else:
        print(as_markdown(lines, options.ask))


def measure_all(cells: Sequence[Cell], environments: Path, seed: int) -> list[Line]:
    """Make the environments, then measure the cells, those of one number of rows on one file."""
    pythons: dict[str, str | UnavailableError] = {}
    for arm in dict.fromkeys(cell.arm for cell in cells):
        try:
            pythons[arm] = python_of(arm, environments)
        except UnavailableError as reason:
            pythons[arm] = reason
    lines: list[Line] = []
    for _, group in groupby(cells, key=lambda cell: cell.rows):
        with tempfile.TemporaryDirectory() as folder:
            lines += _measure_rows(list(group), pythons, Path(folder), seed)
    return lines


def _measure_rows(
    cells: Sequence[Cell], pythons: dict[str, "str | UnavailableError"], folder: Path, seed: int
) -> list[Line]:
    facts = prepare_apart(Job(cells[0], folder), seed)
    lines: list[Line] = []
    for cell in cells:
        line: Line = {"cell": asdict(cell), "time": time.strftime("%F %T %z"), "seed": seed}
        python = pythons[cell.arm]
        if "failed" in facts:
            line |= facts
        elif isinstance(python, UnavailableError):
            line["failed"] = str(python)
        else:
            found = measure_apart(Job(cell, folder), python)
            line |= {"facts": facts} | (found if "failed" in found else {"result": found})
        lines.append(line)
        print(f"{cell!s:36} {one_line(line)}", file=sys.stderr, flush=True)
    return lines


def circumstances() -> dict[str, Any]:
    """Return what a reader needs to repeat a measurement."""
    here = Path(__file__).parent
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False, cwd=here).stdout.strip()
    return {"command": " ".join(["python", *sys.argv]), "commit": commit, "machine": machine()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peer-rows", type=int, default=10_000, help="rows of the slow peers")
    parser.add_argument("--only", type=among("task", list(ARMS)), default=list(ARMS), help=",".join(ARMS))
    parser.add_argument("--peers", type=among("peer", [*PEERS, "none"]), default=list(PEERS), help=",".join(PEERS))
    default = Path(tempfile.gettempdir()) / "poise-benchmark-environments"
    parser.add_argument("--environments", default=str(default), help="folder of the peers' virtual environments")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ask", action="append", default=[], help="'FIGURE>=3' or 'FIGURE<=1', told beside it")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
