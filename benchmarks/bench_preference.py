"""Preference training, poise against TRL: same model, rows, order, batch, optimizer and dtype, in one run.

    python benchmarks/bench_preference.py --data harmless-base-sample.jsonl.gz --out cells.jsonl    the whole table
    python benchmarks/bench_preference.py --data harmless-base-sample.jsonl.gz --quick              under 8 minutes
    python benchmarks/bench_preference.py --shapes tldr --methods orpo --tunings lora --dtypes bfloat16
    python benchmarks/bench_preference.py --device cuda --model 1b

Every cell is a process of its own that reads rows and model from disk, trains one epoch and saves, timed after its
imports; the arms of one data set, method, tuning and dtype run one after another, so that a ratio compares neighbours
in time. What is measured, and how, stands in preference/measure.py; the arms in arms_poise.py and arms_trl.py; the
data in shapes.py. bfloat16 is autocast over float32 weights on both sides. A cell that cannot run is told with its
reason. What is not said takes the headline's plan (preference/plan.py); with --methods, --tunings, --dtypes or
--shapes the plan is their product.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from choices import among
from preference.plan import (
    DTYPES,
    METHODS,
    MODELS,
    PAIR_ARMS,
    SFT_ARMS,
    SUBSET,
    TUNINGS,
    Cell,
    Settings,
    all_data,
    by_data,
    headline,
    key,
    product,
)
from preference.processes import measure_apart, prepare_apart, work
from preference.shapes import FILE, SHAPES
from preference.table import Line, as_markdown, checked, figures, one_line

QUICK_ROWS = 16
"""Two steps of every data set: at width 256 what 30 cells can do in under 8 minutes on 2 cores."""
ARMS = tuple(dict.fromkeys((*PAIR_ARMS, *SFT_ARMS)))


def main() -> None:
    """Measure every cell of the plan and print the table."""
    options = _options()
    if options.worker:
        work(Path(options.worker))
        return
    settings, cells = _settings(options), plan(options)
    out = Path(options.out) if options.out else None
    known = read_cells(out) if options.resume and out else {}
    lines = measure_all(cells, settings, known, out)
    if options.json:
        found = figures(lines)
        told = {"cells": lines, "figures": found, "asked": checked(options.ask, found)}
        print(json.dumps({"benchmark": "preference", **_circumstances(), **told}))
    else:
        print(as_markdown(lines, options.ask))


def plan(options: argparse.Namespace) -> list[Cell]:
    """Return the cells that the options ask for, those of one data set together."""
    data, arms = options.shapes or all_data(options.data), options.arms or ()
    if options.quick:
        return product([*([FILE] if options.data else []), *SUBSET], ["dpo"], ["lora", "full"], ["float32"], arms)
    if options.device == "cuda" and not options.shapes:
        data = ["hh-rlhf", "helpsteer"]
    if options.device == "cpu" and not (options.shapes or options.methods or options.tunings or options.dtypes):
        return headline(data, arms)
    dtypes = options.dtypes or (["bfloat16"] if options.device == "cuda" else ["float32"])
    methods, tunings = options.methods or ["dpo"], options.tunings or ["lora", "full"]
    return by_data(product(data, methods, tunings, dtypes, arms))


def measure_all(cells: Sequence[Cell], settings: Settings, known: dict[str, Line], out: Path | None) -> list[Line]:
    """Measure what is not known yet, one data set after another; every cell is written as soon as it is done."""
    lines: list[Line] = []
    for data, group in groupby(cells, key=lambda cell: cell.data):
        wanted = list(group)
        lines += [known[key(cell, settings)] for cell in wanted if key(cell, settings) in known]
        missing = [cell for cell in wanted if key(cell, settings) not in known]
        if missing:
            with tempfile.TemporaryDirectory() as folder:
                lines += _measure_data(data, missing, settings, Path(folder), out)
    return sorted(lines, key=lambda line: cells.index(Cell(**line["cell"])))


def _measure_data(data: str, cells: Sequence[Cell], settings: Settings, folder: Path, out: Path | None) -> list[Line]:
    facts = prepare_apart(data, settings, folder)
    lines: list[Line] = []
    for cell in cells:
        about: Line = {"cell": asdict(cell), "settings": asdict(settings), "time": time.strftime("%F %T %z")}
        if "failed" in facts:
            line = about | facts
        else:
            found = measure_apart(cell, settings, folder, facts)
            line = about | {"facts": facts} | (found if "failed" in found else {"result": found})
            for used in folder.glob("run-*"):
                shutil.rmtree(used)
        lines.append(line | {"circumstances": _circumstances()})
        print(f"{cell!s:48} {one_line(line)}", file=sys.stderr, flush=True)
        if out:
            with out.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
    return lines


def read_cells(out: Path) -> dict[str, Line]:
    """Return the finished cells of a file by their key; failed ones are tried again, a torn last line is too."""
    known: dict[str, Line] = {}
    for text in out.read_text().splitlines() if out.is_file() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "result" in line:
            known[key(Cell(**line["cell"]), Settings(**line["settings"]))] = line
    return known


def _circumstances() -> dict[str, Any]:
    """Return what a reader needs to repeat a measurement."""
    here = Path(__file__).parent
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False, cwd=here).stdout.strip()
    names = ("poise", "trl", "transformers", "torch", "peft")
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        **{name: version(name) for name in names},
    }


def _settings(options: argparse.Namespace) -> Settings:
    rows = QUICK_ROWS if options.quick and options.rows is None else options.rows
    return Settings(rows, options.tokens, options.width, options.model, options.device, options.seed, options.data)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a file of preference pairs, measured as the data set `file`")
    parser.add_argument("--shapes", type=among("data", (*SHAPES, FILE)), help=f"of {', '.join(SHAPES)}, {FILE}")
    parser.add_argument("--methods", type=among("method", METHODS), help=",".join(METHODS))
    parser.add_argument("--tunings", type=among("tuning", TUNINGS), help=",".join(TUNINGS))
    parser.add_argument("--dtypes", type=among("dtype", DTYPES), help=",".join(DTYPES))
    parser.add_argument("--arms", type=among("arm", ARMS), help=",".join(ARMS))
    parser.add_argument("--rows", type=int, help="rows of each data set, whatever their length")
    parser.add_argument(
        "--tokens", type=int, default=40_000, help="unshared tokens of an epoch, 16 rows at least; 0: the whole file"
    )
    parser.add_argument("--width", type=int, default=256, help="hidden size of the model of 6 layers")
    parser.add_argument("--model", choices=list(MODELS), default="width")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--quick", action="store_true", help="the file and two shapes, DPO, float32, few rows")
    parser.add_argument("--out", help="file that every finished cell is appended to")
    parser.add_argument("--resume", action="store_true", help="take finished cells from --out")
    parser.add_argument("--ask", action="append", default=[], help="'FIGURE>=3' or 'FIGURE<=1', told beside it")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shapes and FILE in options.shapes and not options.data:
        parser.error(f"--shapes {FILE} needs --data")
    if options.resume and not options.out:
        parser.error("--resume needs --out")
    return options


if __name__ == "__main__":
    main()
