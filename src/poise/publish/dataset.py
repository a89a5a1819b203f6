"""Plan a curated dataset: rows, ledger, counts and card as the build wrote them, or nothing."""

import json
from fnmatch import fnmatch
from pathlib import Path

from poise.curate.trace import manifest_of
from poise.curate.write import COUNTS, LEDGER
from poise.publish.collect import refuse_secrets
from poise.publish.plan import Plan, Planned, refuse
from poise.publish.target import Target
from poise.run import file_sha256

PUBLISHED = ("README.md", LEDGER, COUNTS, "charts/*.svg", "data/*.parquet")


def plan_dataset(out: Path, target: Target, *, public: bool) -> Plan:
    """Plan a folder that `poise curate` wrote; RunError where a file is not as the build wrote it."""
    manifest = manifest_of(out)
    _refuse_changed(out, manifest["files"])
    found = [path.relative_to(out).as_posix() for path in sorted(out.rglob("*")) if path.is_file()]
    names = [name for name in found if any(fnmatch(name, pattern) for pattern in PUBLISHED)]
    shown = [name for name in found if name not in names and not name.startswith((".", "stages/"))]
    plan = Plan(
        kind="dataset",
        what=str(out),
        target=target,
        public=public,
        files=tuple(Planned.of_file(name, out / name) for name in names),
        left_out=tuple(shown),
    )
    refuse_secrets(plan)
    return plan


def _refuse_changed(out: Path, files: dict[str, str]) -> None:
    there = {path.relative_to(out).as_posix() for path in (out / "data").rglob("*.parquet")}
    wrong = [name for name, sha256 in files.items() if not (out / name).is_file() or file_sha256(out / name) != sha256]
    told = [f"{json.dumps(name)} is not as the build wrote it" for name in [*wrong, *sorted(there - files.keys())]]
    refuse(out, told, "build it again with `poise curate`, for its card and its ledger speak of other rows")
