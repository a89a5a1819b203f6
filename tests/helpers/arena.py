"""What arenas are made of in tests: written answers, and a visitor of the page."""

import asyncio
import json
import re
from collections.abc import Iterable
from html import unescape
from pathlib import Path
from typing import Any

from poise.arena.battles import schedule
from poise.arena.contestants import open_contestants
from poise.arena.session import Session
from poise.arena.store import Store
from poise.arena.writer import Writer
from poise.evaluate.answer import Answer, Sampling
from poise.evaluate.journal import Journal

PORT = 8123
GOOD, POOR = "zephyr-tuned", "zephyr-raw"
NAMES = re.compile(r"zephyr|tuned|\braw\b")
"""Of which nothing may be seen before the end."""
HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"


def answers_of(number: int) -> dict[str, str]:
    return {GOOD: f"{number} and {number} are {2 * number}.", POOR: f"Who knows? {HOSTILE if number == 3 else ''}"}


def write_answers(folder: Path, answers: Iterable[dict[str, str]], **fields: Any) -> Path:
    """Write samples.jsonl as `poise evaluate generate` does, a question for each mapping of labels to answers."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "id": f"q{number}",
            "set": "sums",
            "prompt": [{"role": "user", "content": f"What are {number} and {number}?"}],
            "expected": None,
            "answers": {
                label: {"text": text, "tokens": 9, "stopped": True, "score": None, **fields}
                for label, text in given.items()
            },
        }
        for number, given in enumerate(answers)
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def make_session(folder: Path, *names: str, voter: str = "me", seed: int = 0, again: int = 0) -> tuple[Session, Store]:
    """Open an arena on written answers in `folder`."""
    sampling = Sampling(8)
    opened, questions = open_contestants(names, folder, sampling, chat_template=None, batch_size=8)
    store = Store(folder)
    store.enter({each.label: each.identity for each in opened})
    journal = Journal(folder / "answers.jsonl")
    writers = {each.label: Writer(each, sampling, journal, questions, 8) for each in opened}
    battles = schedule(questions, list(writers), seed, again)
    return Session(battles, writers, store, voter, seed), store


def answer(text: str, stopped: bool = True) -> Answer:
    return Answer(text, len(text.split()), stopped, None)


class Visitor:
    """Asks the page's server as a browser does, in this thread."""

    def __init__(self, app: Any, port: int = PORT) -> None:
        self.app, self.port = app, port
        self.cookies: dict[str, str] = {}
        self.seen: list[str] = []
        """All that was answered, headers and bodies."""

    def __call__(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Any:
        return asyncio.run(
            self._ask(method, path, form, {key.replace("_", "-"): each for key, each in headers.items()})
        )

    async def _ask(self, method: str, path: str, form: dict[str, str] | None, headers: dict[str, str]) -> Any:
        import httpx2

        transport = httpx2.ASGITransport(app=self.app)
        address = f"http://127.0.0.1:{self.port}"
        async with httpx2.AsyncClient(transport=transport, base_url=address, cookies=self.cookies) as client:
            reply = await client.request(method, path, data=form, headers=headers)
            self.cookies |= dict(client.cookies)
        self.seen.append(f"{reply.headers}\n{reply.text}")
        return reply

    def page(self) -> str:
        return self("GET", "/").text

    def form(self, page: str) -> dict[str, str]:
        """Read what the form of the votes carries."""
        return {name: field(page, name) for name in ("check", "battle")}

    def vote(self, verdict: str) -> Any:
        return self("POST", "/vote", {**self.form(self.page()), "verdict": verdict})


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, page
    return found[1]


def shown(page: str, side: str) -> str:
    found = re.search(rf'id="{side}" dir="auto">(.*?)</div>', page, re.DOTALL)
    assert found, page
    return unescape(found[1])


def verdict_for(page: str, better: str = " are ") -> str:
    """Vote for the side whose answer holds a phrase."""
    return "left" if better in shown(page, "left") else "right"
