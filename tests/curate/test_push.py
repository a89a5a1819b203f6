"""A dataset is published whole or not at all, and never as something else than what was built."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import hub_server
from poise.errors import ResourceError, RunError
from poise.publish.publish import publish

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
HUB, ALWAYS = "hub:me/mine", lambda plan: True


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with hub_server.standing_in(monkeypatch) as server:
        yield server


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own upload
def test_a_dataset_is_published_private_and_without_its_stages(build, chat, hub: Any) -> None:
    built = build({"a": [chat("1")]})
    result = publish(built.out, HUB, ALWAYS)
    assert result["kind"] == "dataset"
    assert hub.repositories["me/mine"].private
    names = {file["name"] for file in result["files"]}
    assert {"README.md", "ledger.parquet", "ledger.json"} < names
    assert not any(name.startswith("stages/") for name in names)
    assert set(hub.repositories["me/mine"].main) == {".gitattributes", *names}


def test_a_secret_in_a_row_is_found_although_tables_are_compressed(build, chat, hub: Any) -> None:
    row = json.loads(json.dumps(chat("1")).replace("1", "AKIAIOSFODNN7EXAMPLE", 1))
    with pytest.raises(RunError, match=r"\.parquet holds what looks like a token"):
        publish(build({"a": [row]}).out, HUB, ALWAYS)
    assert hub.received == []


def test_a_file_that_was_changed_or_added_is_not_published(build, chat, hub: Any) -> None:
    built = build({"a": [chat("1")]})
    (built.out / "data" / "conversation" / "more.parquet").write_bytes(b"")
    with pytest.raises(RunError, match=r"more\.parquet\" is not as the build wrote it"):
        publish(built.out, HUB, ALWAYS)
    (built.out / "data" / "conversation" / "more.parquet").unlink()
    (built.out / "ledger.json").write_text("{}")
    with pytest.raises(RunError, match=r"ledger\.json"):
        publish(built.out, HUB, ALWAYS)
    assert hub.received == []


def test_without_a_network_nothing_is_lost_and_the_error_says_what_to_do(
    build, chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ResourceError, match="the Hub did not take it"):
        publish(build({"a": [chat("1")]}).out, HUB, ALWAYS)
