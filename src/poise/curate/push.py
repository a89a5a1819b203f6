"""Publish a curated folder as a dataset of the Hub: only when asked, private unless said otherwise."""

import json
from pathlib import Path
from typing import Any

from poise.curate.trace import manifest_of
from poise.curate.write import COUNTS, LEDGER, MANIFEST
from poise.errors import DataError, RunError
from poise.run import file_sha256

PUBLISHED = ("README.md", LEDGER, COUNTS, "charts/*.svg", "data/**/*.parquet")


def push(out: Path, repository: str, *, public: bool = False) -> dict[str, Any]:
    """Upload data, ledger, counts and card to `repository`; returns where they are.

    Raises RunError where a file is not as the build wrote it, DataError where the Hub refuses.
    """
    from huggingface_hub import HfApi

    _refuse_changed(out)
    api = HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=out,
            allow_patterns=list(PUBLISHED),
            commit_message=f"Curated by poise: {manifest_sha256(out)[:12]}",
        )
    except Exception as error:
        raise DataError(
            f"{repository}: the Hub did not take the dataset\n"
            f"    why:    {type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}\n"
            "    to do:  check the name, the network and your login (`hf auth login`); nothing here has changed"
        ) from None
    return {"repository": repository, "url": str(commit.commit_url), "public": public}


def manifest_sha256(out: Path) -> str:
    """Hash the manifest, which names the recipe, every stage and every file."""
    return file_sha256(out / MANIFEST)


def _refuse_changed(out: Path) -> None:
    """Refuse a folder whose files are not those of its manifest."""
    files: dict[str, str] = manifest_of(out)["files"]
    there = {path.relative_to(out).as_posix() for path in (out / "data").rglob("*.parquet")}
    wrong = [name for name, sha256 in files.items() if not (out / name).is_file() or file_sha256(out / name) != sha256]
    wrong += sorted(there - files.keys())
    if wrong:
        raise RunError(
            f"{out}: {json.dumps(wrong[0])} is not as the build wrote it"
            + (f", nor are {len(wrong) - 1} more" if len(wrong) > 1 else "")
            + "\n    why:    the card and the ledger would not speak of what is published\n"
            "    to do:  build it again with `poise curate`, then push"
        )
