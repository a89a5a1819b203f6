"""A server for tests that speaks OpenAI's chat protocol with known habits; on this machine only, and it ends alone."""

import json
import math
import re
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OUTPUTS = re.compile(r'"output": """(.*?)"""', re.DOTALL)


@dataclass
class Habits:
    """How the server behaves; `says` turns the last message into the reply."""

    says: Callable[[str], str]
    logprobs: bool = True
    statuses: list[int] = field(default_factory=list[int])
    """Sent first, one for each request, before it begins to answer."""
    seconds: float = 0.0
    refuses: Callable[[dict[str, Any]], tuple[int, str] | None] = lambda body: None
    answered: "Counter[str]" = field(default_factory=Counter[str])
    """How often each request was answered with 200."""
    seen: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """The headers of every request."""
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def longer_wins(prompt: str) -> str:
    shown = OUTPUTS.findall(prompt)[-2:]
    return "m" if not shown or len(shown[0]) > len(shown[1]) else "M"


def always_first(prompt: str) -> str:
    return "m"


def always(text: str) -> Callable[[str], str]:
    return lambda prompt: text


@contextmanager
def serving(habits: Habits) -> Iterator[str]:
    """Run the server for a block; gives its base URL."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                habits.seen.append({key.lower(): value for key, value in self.headers.items()})
                habits.bodies.append(body)
                status = habits.statuses.pop(0) if habits.statuses else 200
            time.sleep(habits.seconds)
            refused = habits.refuses(body)
            if refused:
                return self.send(refused[0], {"error": {"message": refused[1]}})
            if status != 200:
                return self.send(status, {"error": {"message": "not now"}})
            with lock:
                habits.answered[json.dumps(body, sort_keys=True)] += 1
            return self.send(200, completion(habits, body))

        def send(self, status: int, value: dict[str, Any]) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("location", "http://127.0.0.1:9/v1/chat/completions")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def server_bind(self) -> None:
            socketserver.TCPServer.server_bind(self)  # HTTPServer's own would ask the network for this machine's name
            self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is no fault of the server's."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(habits: Habits, body: dict[str, Any]) -> dict[str, Any]:
    text = habits.says(body["messages"][-1]["content"])
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    if body.get("logprobs") and habits.logprobs:
        other = "M" if text == "m" else "m"
        top = [
            {"token": token, "logprob": math.log(share), "bytes": None} for token, share in ((text, 0.9), (other, 0.1))
        ]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return {
        "id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice],
        "usage": {"prompt_tokens": 1, "completion_tokens": len(text.split()), "total_tokens": 2},
    }  # fmt: skip
