"""A dataset is published whole or not at all, and never as something else than what was built."""

from types import SimpleNamespace
from typing import Any

import pytest

from poise.curate.push import push
from poise.errors import DataError, RunError


class Hub:
    """Takes what huggingface_hub would send."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, name: str, **options: Any) -> None:
        self.calls.append((name, options))

    def upload_folder(self, **options: Any) -> Any:
        self.calls.append(("upload", options))
        return SimpleNamespace(commit_url="https://huggingface.co/datasets/me/mine/commit/1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: found)
    return found


def test_a_dataset_is_pushed_private_and_without_its_stages(build, chat, hub: Hub) -> None:
    built = build({"a": [chat("1")]})
    assert push(built.out, "me/mine")["url"].startswith("https://")
    (_, created), (_, sent) = hub.calls
    assert created["private"] and created["repo_type"] == sent["repo_type"] == "dataset"
    assert sent["allow_patterns"] == ["README.md", "ledger.parquet", "ledger.json", "charts/*.svg", "data/**/*.parquet"]


def test_a_file_that_was_changed_or_added_is_not_pushed(build, chat, hub: Hub) -> None:
    built = build({"a": [chat("1")]})
    (built.out / "data" / "conversation" / "more.parquet").write_bytes(b"")
    with pytest.raises(RunError, match=r"more\.parquet\" is not as the build wrote it"):
        push(built.out, "me/mine")
    (built.out / "data" / "conversation" / "more.parquet").unlink()
    (built.out / "ledger.json").write_text("{}")
    with pytest.raises(RunError, match=r"ledger\.json"):
        push(built.out, "me/mine")
    assert hub.calls == []


def test_without_a_network_nothing_is_lost_and_the_error_says_what_to_do(build, chat) -> None:
    with pytest.raises(DataError, match="the Hub did not take the dataset"):
        push(build({"a": [chat("1")]}).out, "me/mine")
