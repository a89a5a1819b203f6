"""The page: blind, safe against what answers hold and what other sites try, one vote for one battle."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx2")
from helpers import arena as made
from poise.arena.app import Arena, make_app
from poise.arena.ending import ending

TOKEN = "a-token-of-this-test"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write_answers(tmp_path / "answers", map(made.answers_of, range(6)))


@pytest.fixture
def opened(folder: Path, tmp_path: Path) -> Iterator[tuple[Any, Any, Any]]:
    """A visitor with the cookie, the session and its store."""
    session, store = made.make_session(tmp_path / "arena", str(folder))
    visitor = made.Visitor(make_app(Arena(session, TOKEN, made.PORT, lambda: ending(store.votes()))))
    assert visitor("GET", f"/?token={TOKEN}").status_code == 303
    with closing(store):
        yield visitor, session, store


def test_no_name_is_in_anything_sent_before_the_end_and_the_end_tells_both(opened: Any) -> None:
    visitor, session, _ = opened
    while not session.is_over:
        page = visitor.page()
        visitor("GET", f"/answers/{made.field(page, 'battle')}")
        assert visitor.vote(made.verdict_for(page)).headers["location"] == "/"
    for path in ("/arena.css", "/arena.js", "/nothing"):
        visitor("GET", path)
    assert not [seen for seen in visitor.seen if made.NAMES.search(seen)]
    end = visitor.page()
    assert f"<h2>{made.GOOD} wins 100\u00a0% against {made.POOR}</h2>" in end
    assert "6 won, 0 lost, 0 tied, 0 both bad" in end


def test_what_an_answer_holds_is_shown_and_never_markup(opened: Any) -> None:
    visitor, session, _ = opened
    pages: list[str] = []
    while not session.is_over:
        pages.append(visitor.page())
        visitor.vote("tie")
    pages.append(visitor.page())
    assert sum("&lt;script&gt;alert(1)" in page for page in pages) == 2, "its battle, and the end"
    for page in pages:
        assert "<script>" not in page
        assert "<img" not in page
        assert "\u202e" not in page
    streamed = visitor("GET", f"/answers/{next(iter(session._battles))}").text
    assert streamed == "event: whole\ndata: {}\n\n"


def test_every_answer_forbids_all_that_is_not_the_pages_own(opened: Any) -> None:
    visitor, _, _ = opened
    for path in ("/", "/arena.js", "/nothing"):
        headers = visitor("GET", path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';")
        assert "unsafe" not in policy
        assert headers["cache-control"] == "no-store"
    page = visitor.page()
    assert "http:" not in page
    assert "https:" not in page
    assert " style=" not in page


def test_the_token_leaves_the_address_for_a_cookie_of_this_site_alone(opened: Any) -> None:
    visitor, _, _ = opened
    fresh = made.Visitor(visitor.app)
    reply = fresh("GET", f"/?token={TOKEN}")
    assert reply.headers["location"] == "/"
    assert reply.headers["set-cookie"].split("; ")[1:] == ["HttpOnly", "Path=/", "SameSite=strict"]
    assert fresh("GET", "/").status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 403),
        ("/?token=wrong", {}, 403),
        ("/?token=", {}, 403),
        ("/?token=\u00e9", {}, 403),
        ("/arena.js", {}, 403),
        (f"/?token={TOKEN}", {"host": "evil.example"}, 421),
        (f"/?token={TOKEN}", {"host": "127.0.0.1:1"}, 421),
        (f"/?token={TOKEN}", {"host": f"127.0.0.1:{made.PORT}.evil.example"}, 421),
        (f"/?token={TOKEN}", {"origin": "http://evil.example"}, 403),
        (f"/?token={TOKEN}", {"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"}, 403),
        (f"/?token={TOKEN}", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 200),
        (f"/?token={TOKEN}", {"host": f"localhost:{made.PORT}"}, 303),
    ],
)
def test_nobody_enters_without_the_token_or_by_another_name(
    path: str, headers: dict[str, str], status: int, opened: Any
) -> None:
    assert made.Visitor(opened[0].app)("GET", path, **headers).status_code == status


def test_another_page_cannot_vote(opened: Any) -> None:
    """It has no check; a cookie that a browser sends is not enough, nor is an origin on another port."""
    visitor, session, store = opened
    form = {**visitor.form(visitor.page()), "verdict": "left"}
    for changed, headers, status in (
        ({"check": ""}, {}, 403),
        ({"check": "0" * 64}, {}, 403),
        ({"verdict": "won"}, {}, 409),
        ({"battle": "nothing"}, {}, 409),
        ({}, {"origin": "http://127.0.0.1:9"}, 403),
        ({}, {"origin": "null"}, 403),
        ({}, {"sec_fetch_site": "same-site"}, 403),
        ({"verdict": "x" * 300_000}, {}, 413),
    ):
        assert visitor("POST", "/vote", {**form, **changed}, **headers).status_code == status
    for path in ("/undo", "/end", "/ask"):
        assert visitor("POST", path, {"prompt": "Hello?"}).status_code == 403
    assert store.votes() == []
    assert visitor("POST", "/vote", form, origin=f"http://127.0.0.1:{made.PORT}").status_code == 303
    assert len(store.votes()) == 1
    assert not session.is_over


def test_a_vote_that_is_sent_twice_counts_once_and_the_last_can_be_undone(opened: Any) -> None:
    visitor, session, store = opened
    form = visitor.form(visitor.page())
    for verdict in ("left", "right"):
        assert visitor("POST", "/vote", {**form, "verdict": verdict}).status_code == 303
    visitor.vote("both_bad")
    assert [vote.verdict for vote in store.votes()] == ["left", "both_bad"]
    assert session.progress == (2, 6)
    visitor("POST", "/undo", {"check": form["check"]})
    assert [vote.verdict for vote in store.votes()] == ["left"]
    assert "1 of 6 voted" in visitor.page()


def test_ending_tells_the_names_and_takes_no_further_vote(opened: Any) -> None:
    visitor, session, store = opened
    form = visitor.form(visitor.page())
    visitor.vote("left")
    visitor("POST", "/end", {"check": form["check"]})
    page = visitor.page()
    assert made.GOOD in page
    assert "1 vote, 5 left for another time" in page
    assert visitor("POST", "/vote", {**form, "verdict": "left"}).status_code == 409
    visitor("POST", "/undo", {"check": form["check"]})
    assert len(store.votes()) == 1
    assert not session.can_take_back


def test_an_answer_that_was_cut_off_or_is_empty_is_marked(tmp_path: Path) -> None:
    answers = made.write_answers(tmp_path / "answers", [{"one": "and so", "other": " "}], stopped=False)
    session, store = made.make_session(tmp_path / "arena", str(answers))
    visitor = made.Visitor(make_app(Arena(session, TOKEN, made.PORT, dict)))
    visitor("GET", f"/?token={TOKEN}")
    page = visitor.page()
    assert page.count('-cut">') == 2
    assert page.count('<p class="empty">') == 1
    store.close()


def test_the_votes_of_a_page_are_those_its_script_knows(opened: Any) -> None:
    """Each key presses the button of its verdict; ↓ stands for the tie's where nothing is below."""
    visitor, _, _ = opened
    page = visitor.page()
    for key, verdict in (("ArrowLeft", "left"), ("t", "tie"), ("x", "both_bad"), ("ArrowRight", "right")):
        assert f'value="{verdict}" data-key="{key}"' in page
    assert json.dumps("ArrowDown") in visitor("GET", "/arena.js").text


def test_a_defect_of_the_server_is_kept_for_the_command_to_tell(opened: Any) -> None:
    visitor, session, store = opened
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        visitor.vote("left")
    assert isinstance(visitor.app._arena.defect, sqlite3.ProgrammingError)
    assert session.progress == (0, 6), "a vote that is not on the disk is none"
