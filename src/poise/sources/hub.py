"""Datasets of the Hugging Face Hub, and folders that `datasets.save_to_disk` wrote."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poise.errors import DataError
from poise.sources.arrow_rows import BATCH_ROWS, read_batches
from poise.sources.folders import neighbours, no_split
from poise.sources.opening import Read
from poise.sources.refusal import FileError
from poise.sources.spec import SourceSpec


def hub_splits(spec: SourceSpec) -> dict[str, Any]:
    """Load the asked split, or all of them, from the Hub or from its local cache."""
    import datasets

    try:
        found = datasets.load_dataset(spec.name, spec.config, split=spec.split, revision=spec.revision)
    except Exception as error:
        raise DataError(
            f"{spec.name}: no such path here, and not loaded from the Hugging Face Hub\n"
            f"    why:    {neighbours(spec.name)}; the Hub: {_reason(error)}\n"
            f"    to do:  correct the path; or check the id, config {spec.config!r}, split {spec.split!r}, revision "
            f"{spec.revision!r}, the network and your login; or download the dataset and name its folder"
        ) from None
    if isinstance(found, datasets.Dataset):
        return {str(spec.split): found}
    return {str(split): dataset for split, dataset in found.items()}


def is_saved(folder: Path) -> bool:
    """Tell whether `save_to_disk` wrote this folder."""
    one = all((folder / name).is_file() for name in ("dataset_info.json", "state.json"))
    return one or (folder / "dataset_dict.json").is_file()


def disk_splits(folder: Path, split: str | None) -> dict[str, Any]:
    """Load a saved Dataset, which is the split `train` (or the one it was saved as), or splits of a DatasetDict."""
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise DataError(
            f"{folder}: a folder of datasets.save_to_disk that cannot be loaded\n"
            f"    why:    {_reason(error)}\n"
            f"    to do:  save the dataset again"
        ) from None
    if isinstance(found, datasets.Dataset):
        there = sorted({"train", str(found.split or "train")})
        if split not in (None, *there):
            raise no_split(folder, str(split), there)
        return {"": found}
    splits = {str(name): dataset for name, dataset in found.items()}
    if split is not None and split not in splits:
        raise no_split(folder, split, list(splits))
    return splits if split is None else {split: splits[split]}


def read_dataset(place: str, dataset: Any) -> Iterator[Read]:
    """Read a Dataset's rows as they are stored, without decoding images or audio that no shape uses."""
    import pyarrow as pa

    try:
        yield from read_batches(dataset.with_format("arrow").iter(batch_size=BATCH_ROWS))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise FileError(place, f"cannot be read: {_reason(error)}", "its rows are needed", "load it again") from None


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def download(name: str, file: str, revision: str | None = None) -> Path:
    """Download one file of a dataset repository, or find it in the local cache."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, file, repo_type="dataset", revision=revision))
    except Exception as error:
        raise DataError(
            f"{name}: {file} was not loaded from the Hugging Face Hub\n"
            f"    why:    {_reason(error)}\n"
            f"    to do:  check the revision {revision!r}, the network and your login; or download the files and name "
            "their folder as `path`"
        ) from None


def commit_of(name: str, revision: str | None = None) -> str | None:
    """Return the commit that a revision of a dataset means now; None where the Hub cannot be asked."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(name, revision=revision, timeout=10).sha
    except Exception:
        return None
