"""The page's server: pages, votes, and answers as they are written, for whoever has the token and nobody else.

Another site must neither read nor vote. A name that leads here by DNS is not the page's (Host); the token comes once in
the address, then in a cookie that no other site makes the browser send; a vote carries a check of its own; and the page
may load nothing but its own style and script.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poise.arena import page
from poise.arena.session import Session
from poise.arena.store import VERDICTS, Verdict

LONGEST_BODY = 200_000
"""Bytes; a prompt of 20,000 characters, each of four bytes and written as %XX, is the most a form holds."""
SECONDS_BETWEEN_LOOKS = 0.1
SAME = ("none", "same-origin")
"""What a browser says of a request that is the user's own or our page's."""
GO_ON = '<!doctype html><title>Arena</title><meta http-equiv="refresh" content="0;url=/">'
"""For an address that was followed from elsewhere: a redirect would still be elsewhere's, and carry no cookie."""
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass
class Arena:
    """What the server holds for one session."""

    session: Session
    token: str
    port: int
    tell: Callable[[], dict[str, Any]]
    """Returns what the end shows: names and numbers."""
    has_told: bool = False
    """Whether the end has been shown."""
    is_closing: bool = False
    defect: Exception | None = None
    """What went wrong in the server itself; then nobody can go on."""

    @property
    def cookie(self) -> str:
        """The cookie's name; browsers give cookies to every port of a host, so two arenas need two."""
        return f"poise-arena-{self.port}"

    @property
    def check(self) -> str:
        """What a form must carry besides the cookie."""
        return hmac.new(self.token.encode(), b"form", hashlib.sha256).hexdigest()


def make_app(arena: Arena) -> ASGIApp:
    """Make the server of a session."""
    session = arena.session

    def show(request: Request) -> Response:
        if session.is_over:
            done, total = session.progress
            response = HTMLResponse(page.end_page(arena.tell(), total - done))
            arena.has_told = True
            return response
        current = session.current()
        return HTMLResponse(page.vote_page(session, session.show(current.id) if current else None, arena.check))

    async def home(request: Request) -> Response:
        if "token" not in request.query_params:
            return show(request)
        followed = request.headers.get("sec-fetch-site", "none") not in SAME
        response = HTMLResponse(GO_ON) if followed else RedirectResponse("/", 303)
        response.set_cookie(arena.cookie, arena.token, httponly=True, samesite="strict")
        return response

    async def vote(request: Request) -> Response:
        form = await _form(request, arena)
        verdict: Verdict | None = next((known for known in VERDICTS if known == form.get("verdict")), None)
        if verdict is None or not session.vote(form.get("battle", ""), verdict):
            return PlainTextResponse("nothing to vote on", 409)
        return RedirectResponse("/", 303)

    async def undo(request: Request) -> Response:
        await _form(request, arena)
        session.take_back()
        return RedirectResponse("/", 303)

    async def ask(request: Request) -> Response:
        form = await _form(request, arena)
        if not session.ask(form.get("prompt", "")):
            return PlainTextResponse("an empty prompt, one that is too long, or one that you have voted on", 409)
        return RedirectResponse("/", 303)

    async def end(request: Request) -> Response:
        await _form(request, arena)
        session.end()
        return RedirectResponse("/", 303)

    async def answers(request: Request) -> Response:
        id = request.path_params["id"]
        if session.show(id) is None:
            return PlainTextResponse("no such battle", 404)
        return StreamingResponse(_as_written(arena, id), media_type="text/event-stream")

    async def asset(request: Request) -> Response:
        content, kind = page.assets()[request.url.path.removeprefix("/")]
        return Response(content, media_type=kind)

    routes = [
        Route("/", home),
        Route("/vote", vote, methods=["POST"]),
        Route("/undo", undo, methods=["POST"]),
        Route("/ask", ask, methods=["POST"]),
        Route("/end", end, methods=["POST"]),
        Route("/answers/{id}", answers),
        *(Route(f"/{name}", asset) for name in page.assets()),
    ]
    return _Guard(Starlette(routes=routes, exception_handlers={_RefusalError: _told}), arena)


class _RefusalError(Exception):
    """A form that is not from our page, or is no form."""

    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, _RefusalError)
    return PlainTextResponse(error.why, error.status)


class _Guard:
    """Lets nobody in without the token, nor under another name, and puts the rules of the page on every answer."""

    def __init__(self, app: ASGIApp, arena: Arena) -> None:
        self._app, self._arena = app, arena
        self._hosts = {f"{name}:{arena.port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refuse(Request(scope))
        try:
            await (refusal or self._app)(scope, receive, send_with_headers)
        except Exception as error:
            self._arena.defect = error
            raise

    def _refuse(self, request: Request) -> Response | None:
        headers = Headers(scope=request.scope)
        if len(headers.getlist("host")) != 1 or headers["host"].lower() not in self._hosts:
            return PlainTextResponse("this page is at 127.0.0.1 alone", 421)
        if headers.get("origin", self._origin(headers)) != self._origin(headers):
            return PlainTextResponse("not from another page", 403)
        if headers.get("sec-fetch-site", "none") not in SAME and not self._opens(request):
            return PlainTextResponse("not from another page", 403)
        given = request.query_params.get("token") or request.cookies.get(self._arena.cookie) or ""
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._arena.token.encode()):
            return PlainTextResponse("open the address that poise arena printed, with its token", 403)
        return None

    @staticmethod
    def _origin(headers: Headers) -> str:
        return f"http://{headers['host'].lower()}"

    @staticmethod
    def _opens(request: Request) -> bool:
        """Whether the address with the token was followed from somewhere, a chat or a notebook."""
        return request.headers.get("sec-fetch-mode") == "navigate" and "token" in request.query_params


async def _form(request: Request, arena: Arena) -> dict[str, str]:
    """Read a form of our page."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_BODY:
            raise _RefusalError(413, "too long")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=8)
    except ValueError:
        raise _RefusalError(400, "no form") from None
    form = {name: values[0] for name, values in fields.items()}
    if not hmac.compare_digest(form.get("check", "").encode("utf-8", "replace"), arena.check.encode()):
        raise _RefusalError(403, "not from our page; open it again")
    return form


async def _as_written(arena: Arena, id: str) -> AsyncIterator[str]:
    """Send what may be read of two answers whenever it has grown, and the word when both are whole."""
    sent: tuple[str, str] | None = None
    while not arena.is_closing and (shown := arena.session.show(id)) is not None and not shown.whole:
        now = (shown.left, shown.right)
        if now != sent:
            left, right = map(page.visible, now)
            yield f"event: said\ndata: {json.dumps({'left': left, 'right': right})}\n\n"
            sent = now
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
    if not arena.is_closing:
        yield "event: whole\ndata: {}\n\n"
