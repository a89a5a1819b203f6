"""Open the page and keep it open until all is voted on or Ctrl-C comes."""

import secrets
import socket
import time
import webbrowser
from collections.abc import Callable, Mapping
from typing import Any

from poise import progress
from poise.arena.session import Session
from poise.arena.writer import Writer
from poise.errors import ModelError, RecipeError

SECONDS_AT_THE_END = 2.0
"""For the browser to fetch the style of the last page."""


def require_server() -> None:
    """Raise ModelError where what serves the page is not installed."""
    try:
        import starlette
        import uvicorn
    except ImportError:
        raise ModelError("the arena needs starlette and uvicorn\n    to do:  pip install 'poise[arena]'") from None
    del starlette, uvicorn


def serve(
    session: Session,
    writers: Mapping[str, Writer],
    tell: Callable[[], dict[str, Any]],
    *,
    port: int,
    open_browser: bool,
) -> None:
    """Serve the page on 127.0.0.1; returns when it is over, or at a signal, and raises what ended a writer."""
    import uvicorn

    from poise.arena.app import Arena, make_app

    listener = _listen(port)
    arena = Arena(session, secrets.token_urlsafe(32), listener.getsockname()[1], tell)
    address = f"http://127.0.0.1:{arena.port}/?token={arena.token}"
    ended_at: list[float] = []

    async def look() -> None:
        """End where something failed, and a little after the end was shown."""
        if arena.has_told and session.is_over and not ended_at:
            ended_at.append(time.monotonic())
        shown_long_enough = bool(ended_at) and time.monotonic() - ended_at[0] > SECONDS_AT_THE_END
        if shown_long_enough or arena.defect or any(writer.error for writer in writers.values()):
            server.should_exit = True
        arena.is_closing = server.should_exit

    config = uvicorn.Config(
        make_app(arena),
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        callback_notify=look,
        timeout_notify=0,
    )
    server = uvicorn.Server(config)
    progress.say(f"vote at {address}\n(only on this machine; Ctrl-C ends it, votes are kept)")
    if open_browser:
        webbrowser.open(address)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        progress.say("")
    finally:
        for writer in writers.values():
            writer.stop()
        for writer in writers.values():
            if writer.is_alive():
                writer.join()
    for error in (arena.defect, *(writer.error for writer in writers.values())):
        if error is not None:
            raise error


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # so that whoever follows the printed address at once is served a little later, not refused
    except OSError as error:
        listener.close()
        raise RecipeError(
            f"port {port} cannot be opened: {error.strerror}\n    to do:  another --port, or none: a free one is taken"
        ) from None
    return listener
