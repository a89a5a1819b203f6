"""Send a plan: to the Hub in one commit, to a folder by one rename. Stopped at any moment, the old or the new is there.

repository ──private──> files that it lacks are uploaded aside ──one commit──> main ──read back──> equal to the plan
"""

import os
import shutil
from pathlib import Path
from typing import Any

from poise import progress
from poise.errors import InterruptedRun, ResourceError, RunError
from poise.publish.plan import Plan, Planned
from poise.sealed import stage, sweep

KEPT = (".gitattributes",)
"""Files of a repository that are the Hub's own."""


def send(plan: Plan) -> dict[str, Any]:
    """Send a plan; returns where it is. What was uploaded before a stop is not uploaded again."""
    try:
        return _to_folder(plan) if plan.target.is_folder else _to_hub(plan)
    except KeyboardInterrupt:
        raise InterruptedRun(
            f"{plan.target} is as it was before\n    to do:  the same command again, which goes on where it was"
        ) from None


def _to_folder(plan: Plan) -> dict[str, Any]:
    """Write a folder under another name, then give it its own."""
    out = plan.target.path
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is not empty\n    to do:  name another folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep(out.parent)
    staging = stage(out.parent)
    try:
        for file in plan.files:
            _write(file, staging / file.name)
        if out.exists():
            out.rmdir()
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return {"url": str(out)}


def _write(file: Planned, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.source is None:
        path.write_bytes(file.content)
    else:
        shutil.copyfile(file.source, path)
    if Planned.of_file(file.name, path).sha256 != file.sha256:
        raise _changed(file)
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _to_hub(plan: Plan) -> dict[str, Any]:
    from huggingface_hub import HfApi
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode():
        raise ResourceError(f"{plan.target}: HF_HUB_OFFLINE keeps this process from the Hub\n    to do:  unset it")
    for file in plan.files:
        if file.source is not None and Planned.of_file(file.name, file.source) != file:
            raise _changed(file)
    api = HfApi()
    kind = "dataset" if plan.kind == "dataset" else "model"
    try:
        head, there = _prepare(api, plan, kind)
        operations = _operations(plan, there)
        message = f"poise publish {plan.kind}"
        commit = api.create_commit(
            plan.target.name, operations, repo_type=kind, parent_commit=head, commit_message=message
        )
        _read_back(api, plan, kind, str(commit.oid))
    except (RunError, ResourceError):
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ResourceError(
            f"{plan.target}: the Hub did not take it: {type(error).__name__}: {first[:300]}\n"
            "    why:    the network, the login, or somebody else's commit in between; main is as it was before\n"
            "    to do:  check `hf auth login` and the name, then the same command again: it goes on where it was"
        ) from error
    return {"url": str(commit.commit_url), "commit": str(commit.oid)}


def _prepare(api: Any, plan: Plan, kind: str) -> tuple[str | None, set[str]]:
    """Make the repository where there is none; returns its newest commit and its files."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(plan.target.name, repo_type=kind)
    except RepositoryNotFoundError:
        api.create_repo(plan.target.name, repo_type=kind, private=not plan.public)
        info = api.repo_info(plan.target.name, repo_type=kind)
    if bool(info.private) is plan.public:
        is_now, wanted = ("private", "public") if info.private else ("public", "private")
        raise RunError(
            f"{plan.target} is {is_now}, and was to be {wanted}; nothing was sent\n"
            "    why:    who sees a repository is changed by its owner, not by a push\n"
            f"    to do:  {'leave --public out' if info.private else 'add --public'}, name another repository, or "
            "change it in the repository's settings"
        )
    return info.sha, {sibling.rfilename for sibling in info.siblings or []}


def _operations(plan: Plan, there: set[str]) -> list[Any]:
    """Add what is planned and take away all else, so that main is the new model and nothing of the old one."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added = [CommitOperationAdd(file.name, file.source or file.content) for file in plan.files]
    gone = sorted(there - {file.name for file in plan.files} - set(KEPT))
    progress.say(f"sending {len(added)} files" + (f", taking {len(gone)} old ones away" if gone else ""))
    return [*added, *(CommitOperationDelete(name) for name in gone)]


def _read_back(api: Any, plan: Plan, kind: str, commit: str) -> None:
    """Compare what the Hub has with the plan, file by file."""
    info = api.repo_info(plan.target.name, repo_type=kind, revision=commit, files_metadata=True)
    there = {sibling.rfilename: sibling for sibling in info.siblings or []}
    for file in plan.files:
        found = there.get(file.name)
        if found is None or found.size != file.size or (found.lfs and found.lfs.sha256 != file.sha256):
            raise RunError(
                f"{plan.target}: {file.name} is not there as it was planned (commit {commit})\n"
                "    why:    it changed while it was sent, or a .gitignore of the repository leaves it out\n"
                "    to do:  look at the repository, then publish again"
            )


def _changed(file: Planned) -> RunError:
    return RunError(f"{file.source} changed since it was planned\n    to do:  publish again when nothing writes to it")
