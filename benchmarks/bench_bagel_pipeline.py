"""The whole curation of a bagel-like mixture: raw files of twelve sources to a finished dataset, in one process.

    python benchmarks/bench_bagel_pipeline.py                                1.67 million rows
    python benchmarks/bench_bagel_pipeline.py --rows 50000 --folder ../mix   keep the raw files and the dataset

Raw rows are made up (curation/raw_rows.py), in the published schemas, and written before the clock starts. Then
`poise.curate.pipeline.curate` loads them through the catalog, drops exact and near-duplicates, rows that hold items
of a planted benchmark and bad answers, and writes the dataset. Wall and processor seconds, children included, and the
most memory that all its processes held together; every row is in the dataset or in the ledger.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apart import tried
from bench_curation import circumstances
from curation.processes import watched
from preference.table import checked

ROWS = 1_670_000
STEPS = ("exact", "near_duplicates", "decontaminate", "quality")


def main() -> None:
    """Write the raw files, curate them, print what it took."""
    options = _options()
    if options.worker:
        order = Path(options.worker)
        order.with_suffix(".result").write_text(json.dumps(tried(lambda: _do(json.loads(order.read_text())))))
        return
    about = circumstances()
    if options.folder:
        Path(options.folder).mkdir(parents=True, exist_ok=True)
        result = measure(Path(options.folder), options.rows, options.seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = measure(Path(folder), options.rows, options.seed)
    found = figures(result)
    asked = checked(options.ask, found)
    if options.json:
        told = {"result": result, "figures": found, "asked": asked}
        print(json.dumps({"benchmark": "bagel pipeline", **about, **told}))
    else:
        print(as_markdown(result, found, asked))


def measure(folder: Path, rows: int, seed: int) -> dict[str, Any]:
    """Return what was written, taken and counted; or `failed` with the reason."""
    raw = _apart({"do": "write", "rows": rows, "seed": seed, "folder": str(folder)})
    return raw if "failed" in raw else {"raw": raw} | _apart({"do": "curate", "seed": seed, "folder": str(folder)})


def _apart(order: dict[str, Any]) -> dict[str, Any]:
    file = Path(order["folder"]) / f"{order['do']}.json"
    file.write_text(json.dumps(order))
    print(f"{order['do']} …", file=sys.stderr, flush=True)
    return watched([sys.executable, __file__, "--worker", str(file)], file, {"HF_HUB_OFFLINE": "1"})


def _do(order: dict[str, Any]) -> dict[str, Any]:
    folder = Path(order["folder"])
    if order["do"] == "write":
        return write(folder / "raw", order["rows"], order["seed"])
    return run(folder, order["seed"])


def write(raw: Path, rows: int, seed: int) -> dict[str, Any]:
    """Write the raw files, or find them where the same ones were written before."""
    from curation.raw_rows import write_sources

    wanted, told = {"rows": rows, "seed": seed}, raw / "written.json"
    known = json.loads(told.read_text()) if told.is_file() else {}
    if known.get("wanted") != wanted:
        shutil.rmtree(raw, ignore_errors=True)
        known = {"wanted": wanted, **write_sources(raw, rows, seed)}
        told.write_text(json.dumps(known))
    return known


def run(folder: Path, seed: int) -> dict[str, Any]:
    """Curate under the clock; returns seconds, memory and counts."""
    from curation.measure import Region
    from poise.curate.curation import Curation
    from poise.curate.pipeline import curate

    shutil.rmtree(folder / "dataset", ignore_errors=True)  # finished stages of an earlier run would be reused
    curation = Curation(**recipe(folder, seed))
    with Region() as region:
        counts = curate(curation)
    manifest = json.loads((folder / "dataset" / "curation.json").read_text())
    return {**vars(region), **balance(counts, manifest["stages"]), "stages": _told(manifest["stages"])}


def recipe(folder: Path, seed: int) -> dict[str, Any]:
    """Return the recipe: every source from its local files, all steps, embeddings nowhere."""
    from curation.raw_rows import BENCHMARK, SOURCES

    planted = {"name": "planted", "path": str(folder / "raw" / BENCHMARK)}
    sources = [{"source": name, "path": str(folder / "raw" / name), "accept_risk": True} for name in SOURCES]
    steps = [{name: {"benchmarks": [planted]}} if name == "decontaminate" else name for name in STEPS]
    return {"out": str(folder / "dataset"), "seed": seed, "sources": sources, "steps": steps}


def balance(counts: dict[str, Any], stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts, and whether each row that came in went out or was dropped, in every stage and in all."""
    loads = [stage for stage in stages if stage["name"].startswith("load-")]
    steps = [stage for stage in stages if stage["name"] in STEPS]
    dropped = {stage["name"]: sum(stage["dropped"].values()) for stage in steps}
    return {
        "in": counts["in"],
        "left out in loading": sum(sum(stage["dropped"].values()) for stage in loads),
        "made": counts["made"],
        "dropped": dropped,
        "used": counts["used"],
        "balanced": (
            all(stage["in"] == stage["used"] + sum(stage["dropped"].values()) for stage in loads)
            and all(stage["in"] == stage["left"] + sum(stage["dropped"].values()) for stage in steps)
            and counts["made"] == counts["used"] + sum(dropped.values())
        ),
    }


def _told(stages: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the wall seconds of each stage, all loads together."""
    seconds: dict[str, float] = {}
    for stage in stages:
        name = "load" if stage["name"].startswith("load-") else stage["name"]
        seconds[name] = seconds.get(name, 0.0) + stage["seconds"]
    return seconds


def figures(result: dict[str, Any]) -> dict[str, float]:
    """Name what can be asked for."""
    if "failed" in result:
        return {}
    return {
        "wall seconds": result["seconds"],
        "CPU seconds": result["cpu_seconds"],
        "rows per CPU second": result["in"] / result["cpu_seconds"],
        "peak GB": result["peak_bytes"] / 1e9,
        "balanced": float(result["balanced"]),
    }


def as_markdown(result: dict[str, Any], found: dict[str, float], asked: Sequence[str]) -> str:
    """Write a table of figures, one of stages, and what was asked."""
    if "failed" in result:
        return f"failed: {result['failed']}"
    raw = result["raw"]
    counts = {name: result[name] for name in ("in", "left out in loading", "made")}
    counts |= {f"dropped by {name}": count for name, count in result["dropped"].items()} | {"used": result["used"]}
    return "\n\n".join([
        f"{raw['rows']:,} rows of {len(raw['sources'])} sources, {raw['bytes'] / 1e9:.2f} GB of parquet, "
        f"{raw['leaked']:,} rows with a benchmark item",
        _table("figure", {name: f"{value:,.4g}" for name, value in found.items()}),
        _table("rows", {name: f"{count:,}" for name, count in counts.items()}),
        _table("stage, seconds", {name: f"{seconds:,.1f}" for name, seconds in result["stages"].items()}),
        *asked,
    ])  # fmt: skip


def _table(name: str, cells: dict[str, str]) -> str:
    return "\n".join([f"| {name} | |", "|---|---|", *(f"| {what} | {value} |" for what, value in cells.items())])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", help="keep `raw` and `dataset` there; the same raw files are not written again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ask", action="append", default=[], help="'FIGURE>=3' or 'FIGURE<=1', told beside it")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
