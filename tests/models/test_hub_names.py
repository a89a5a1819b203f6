"""A model by its Hub id comes from the cache at one commit, and keeps its id, which adapters and cards repeat."""

import hashlib
import shutil
from pathlib import Path

import pytest

from poise.errors import ModelError
from poise.models.open import load_errors, open_adapter_config, open_causal_lm, open_config, open_tokenizer

COMMIT = "0" * 39 + "1"


@pytest.fixture
def cached(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lay a model out as the Hub's cache does, and be offline."""
    cache = tmp_path / "hub"
    place = cache / "models--nobody--base"
    snapshot = place / "snapshots" / COMMIT
    for folder in (snapshot, place / "blobs", place / "refs"):
        folder.mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    for path in small_model.iterdir():
        blob = hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, place / "blobs" / blob)
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return "nobody/base"


def test_everything_is_opened_and_keeps_its_name(cached: str, small_model: Path) -> None:
    from poise.train.adapters import stored_sha256

    model = open_causal_lm(cached)
    assert model.name_or_path == model.config.name_or_path == cached
    assert open_config(cached).name_or_path == cached
    assert open_tokenizer(cached).name_or_path == cached
    assert open_adapter_config(cached) is None
    assert stored_sha256(cached) == stored_sha256(str(small_model))


def test_what_is_not_there_is_told_with_what_to_do() -> None:
    with pytest.raises(ModelError, match="cannot load 'nobody/nothing'"), load_errors("nobody/nothing"):
        open_config("nobody/nothing")
