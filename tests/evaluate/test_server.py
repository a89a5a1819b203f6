"""Asking a server: retries, what is kept, and what stops everything."""

from pathlib import Path
from typing import Any

import pytest

from helpers import judge_server as judges
from poise.errors import InterruptedRun, ModelError
from poise.evaluate.endpoint import open_endpoint
from poise.evaluate.journal import Journal
from poise.evaluate.server import Reply, Request, Server, without_reasoning

pytest.importorskip("openai")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def server(url: str, tmp_path: Path, **options: Any) -> Server:
    return Server(open_endpoint(url), "judge", Journal(tmp_path / "replies.jsonl"), first_wait=0.001, **options)


def requests(count: int) -> list[Request]:
    return [Request((("user", f"question {n}"),), (("max_tokens", 8),)) for n in range(count)]


def test_replies_come_in_the_order_of_the_requests_and_are_asked_once(tmp_path: Path) -> None:
    habits = judges.Habits(says=lambda prompt: prompt.upper())
    with judges.serving(habits) as url:
        asked = server(url, tmp_path)
        assert [reply.text for reply in asked.ask_all(requests(20), "ask")] == [f"QUESTION {n}" for n in range(20)]
        again = server(url, tmp_path)
        assert again.ask_all(requests(20), "ask") == asked.ask_all(requests(20), "ask")
    assert set(habits.answered.values()) == {1}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status: int, tmp_path: Path) -> None:
    habits = judges.Habits(says=judges.always("fine"), statuses=[status] * 5)
    with judges.serving(habits) as url:
        replies = server(url, tmp_path, concurrency=1).ask_all(requests(3), "ask")
    assert [reply.text for reply in replies] == ["fine"] * 3
    assert len(habits.bodies) == 8


def test_a_server_that_stays_away_interrupts_and_what_it_said_is_kept(tmp_path: Path) -> None:
    habits = judges.Habits(says=judges.always("fine"), statuses=[200, 200, *[500] * 6])
    with judges.serving(habits) as url:
        with pytest.raises(InterruptedRun, match=r"(?s)HTTP 500.*goes on where it stopped") as caught:
            server(url, tmp_path, concurrency=1).ask_all(requests(4), "ask")
        assert caught.value.exit_code == 75
        assert len(Journal(tmp_path / "replies.jsonl")) == 2
        replies = server(url, tmp_path, concurrency=1).ask_all(requests(4), "ask")
    assert [reply.text for reply in replies] == ["fine"] * 4
    assert set(habits.answered.values()) == {1}


def test_a_slow_server_is_a_busy_one(tmp_path: Path) -> None:
    with judges.serving(judges.Habits(says=judges.always("fine"), seconds=1.0)) as url:
        with pytest.raises(InterruptedRun, match="Timeout"):
            server(url, tmp_path, timeout=0.05, attempts=2).ask_all(requests(1), "ask")
        assert len(Journal(tmp_path / "replies.jsonl")) == 0


@pytest.mark.parametrize("status", [401, 403, 404, 302, 307])
def test_a_refusal_of_everything_stops_at_once_and_no_redirect_is_followed(status: int, tmp_path: Path) -> None:
    habits = judges.Habits(says=judges.always("fine"), statuses=[status] * 9)
    with (
        judges.serving(habits) as url,
        pytest.raises(ModelError, match=f"(?s)HTTP {status}.*POISE_KEY_127_0_0_1"),
    ):
        server(url, tmp_path, concurrency=1).ask_all(requests(3), "ask")
    assert len(habits.bodies) == 1


def test_a_request_that_is_refused_is_an_error_and_no_reply(tmp_path: Path) -> None:
    def refuses(body: dict[str, Any]) -> tuple[int, str] | None:
        return (400, "too long") if "question 1" in body["messages"][0]["content"] else None

    with judges.serving(judges.Habits(says=judges.always("fine"), refuses=refuses)) as url:
        replies = server(url, tmp_path).ask_all(requests(3), "ask")
    assert [bool(reply.error) for reply in replies] == [False, True, False]
    assert replies[1].text == ""
    assert "too long" in replies[1].error


def test_a_server_that_knows_only_the_newer_name_of_the_length_limit_is_asked_by_it(tmp_path: Path) -> None:
    def refuses(body: dict[str, Any]) -> tuple[int, str] | None:
        return (400, "unsupported parameter max_tokens") if "max_tokens" in body else None

    habits = judges.Habits(says=judges.always("fine"), refuses=refuses)
    with judges.serving(habits) as url:
        replies = server(url, tmp_path, concurrency=1).ask_all(requests(2), "ask")
    assert [reply.text for reply in replies] == ["fine"] * 2
    assert habits.bodies[-1]["max_completion_tokens"] == 8


def test_only_the_key_of_the_host_is_sent_and_nothing_else_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "OPENAI_API_KEY": "sk-openai", "OPENAI_ORG_ID": "org-secret", "OPENAI_PROJECT_ID": "proj-secret",
        "OPENAI_ADMIN_KEY": "sk-admin", "POISE_KEY_127_0_0_1": "local-key", "HTTP_PROXY": "http://127.0.0.1:9",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    habits = judges.Habits(says=judges.always("your key is local-key"))
    with judges.serving(habits) as url:
        (reply,) = server(url, tmp_path).ask_all(requests(1), "ask")
    (headers,) = habits.seen
    assert headers["authorization"] == "Bearer local-key"
    sent = str(headers) + str(habits.bodies)
    assert not [secret for secret in ("sk-openai", "org-secret", "proj-secret", "sk-admin") if secret in sent]
    assert reply.text == "your key is [key]"
    assert "local-key" not in (tmp_path / "replies.jsonl").read_text()


def test_without_a_key_nothing_is_sent_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    habits = judges.Habits(says=judges.always("fine"))
    with judges.serving(habits) as url:
        server(url, tmp_path).ask_all(requests(1), "ask")
    assert "authorization" not in habits.seen[0]


def test_log_probabilities_of_the_first_token_are_read_where_they_are_given(tmp_path: Path) -> None:
    asked = Request((("user", "which?"),), (("logprobs", True), ("max_tokens", 1), ("top_logprobs", 5)))
    with judges.serving(judges.Habits(says=judges.always("M"))) as url:
        given = server(url, tmp_path / "with").ask(asked)
    assert given.first_token == pytest.approx({"M": -0.10536, "m": -2.302585}, abs=1e-5)
    with judges.serving(judges.Habits(says=judges.always("M"), logprobs=False)) as url:
        assert server(url, tmp_path / "without").ask(asked).first_token is None


def test_reasoning_is_no_part_of_a_reply() -> None:
    assert without_reasoning(Reply("<think>[[3]]?</think>\n[[7]]")).text == "[[7]]"
    assert without_reasoning(Reply("[[7]]")).text == "[[7]]"
