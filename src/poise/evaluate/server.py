"""Ask a server that speaks OpenAI's chat protocol: retried, kept by content, several requests at once.

A reply is kept raw before anything is read from it. What went wrong is kept apart from replies and never becomes one.
"""

import json
import random
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from poise import progress
from poise.errors import InterruptedRun, ModelError
from poise.evaluate.endpoint import Endpoint
from poise.evaluate.journal import Journal, content_key

ATTEMPTS = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
TIMEOUT_S = 120.0
CONCURRENCY = 8
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Worth another attempt. 400, 413 and 422 are the one request's fault; everything else is the set-up's."""
BAD_REQUEST = frozenset({400, 413, 422})


@dataclass(frozen=True)
class Request:
    """One chat completion; two of equal content are one, unless `repeat` tells them apart."""

    messages: tuple[tuple[str, str], ...]
    """(role, content)."""
    settings: tuple[tuple[str, Any], ...] = ()
    """max_tokens, temperature, …"""
    repeat: int = 0


@dataclass(frozen=True)
class Reply:
    """What a server said, or why it said nothing."""

    text: str = ""
    finish: str = ""
    tokens: int = 0
    first_token: dict[str, float] | None = None
    """Log-probabilities (nats) of the likeliest first tokens, where the server gives them."""
    error: str = ""
    """Why this one request was refused; then there is no text."""


class Server:
    """A served model. A reply belongs to host and model; a server of one's own may come back at another port."""

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        journal: Journal,
        *,
        concurrency: int = CONCURRENCY,
        attempts: int = ATTEMPTS,
        timeout: float = TIMEOUT_S,
        first_wait: float = FIRST_WAIT_S,
    ) -> None:
        self.endpoint, self.model, self.journal = endpoint, model, journal
        self._concurrency, self._attempts, self._first_wait = concurrency, attempts, first_wait
        self._stop = threading.Event()
        self._timeout = timeout
        self._tokens_key = "max_tokens"

    def ask_all(self, requests: Sequence[Request], label: str) -> list[Reply]:
        """Answer every request, in order; what the journal holds is not asked again.

        Raises:
            InterruptedRun: the server stayed busy or away; what it answered is kept.
            ModelError: it refuses everything: wrong key, wrong model, no such path.
        """
        with progress.stage(label, len(requests)) as stage:
            missing = {self._key(request): request for request in requests if not self._kept(request)}
            done = len(requests) - len(missing)
            stage.advance(done)
            for finished, _ in enumerate(self._work(list(missing.values())), start=1):
                stage.advance(done + finished)
            stage.advance(len(requests))
        return [_read(self.journal.get(self._key(request)) or {}) for request in requests]

    def ask(self, request: Request) -> Reply:
        """Answer one request."""
        if not self._kept(request):
            list(self._work([request]))
        return _read(self.journal.get(self._key(request)) or {})

    def stop(self) -> None:
        """Let what is on its way arrive and wait for nothing more; for another thread than the one that asks."""
        self._stop.set()

    def _work(self, requests: list[Request]) -> Iterable[None]:
        """Fetch all, several at once; the first thing that stops everything lets those on their way arrive."""
        self._stop.clear()
        with _client(self.endpoint, self._timeout) as client, ThreadPoolExecutor(self._concurrency) as pool:
            futures = [pool.submit(self._fetch, client, request) for request in requests]
            waiting = set(futures)
            try:
                while waiting:
                    done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                        yield None
            except BaseException:
                self._stop.set()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _kept(self, request: Request) -> bool:
        return self.journal.get(self._key(request)) is not None

    def _key(self, request: Request) -> str:
        settings = sorted((name, value) for name, value in request.settings)
        return content_key([self.endpoint.host, self.model, request.messages, settings, request.repeat])

    def _fetch(self, client: Any, request: Request) -> None:
        """Ask, unless something has stopped everything: then the request is left for the next run."""
        if self._stop.is_set():
            return
        try:
            self._fetch_until_kept(client, request)
        except BaseException:
            self._stop.set()
            raise

    def _fetch_until_kept(self, client: Any, request: Request) -> None:
        """Ask until there is a reply or a refusal, and keep it."""
        import openai

        for attempt in range(self._attempts):
            try:
                self.journal.keep(self._key(request), {"raw": self._once(client, request)})
                return
            except openai.APIStatusError as error:
                told = self.endpoint.redacted(f"HTTP {error.status_code}: {error.message}"[:500])
                if error.status_code in BAD_REQUEST:
                    self.journal.keep(self._key(request), {"error": told})
                    return
                if error.status_code not in BUSY:
                    raise ModelError(_refused(self.endpoint, self.model, told)) from None
                self._back_off(attempt, told, error.response.headers.get("retry-after"))
            except (openai.APIConnectionError, openai.APIResponseValidationError, ValueError) as error:
                self._back_off(attempt, self.endpoint.redacted(f"{type(error).__name__}: {error}"[:500]), None)

    def _once(self, client: Any, request: Request) -> dict[str, Any]:
        """Send a request; again with the newer name of the length limit where the server knows only that."""
        import openai

        name = self._tokens_key
        try:
            return self._send(client, request, name)
        except openai.BadRequestError as error:
            if name != "max_tokens" or name not in dict(request.settings) or name not in error.message:
                raise
        self._tokens_key = "max_completion_tokens"
        return self._send(client, request, self._tokens_key)

    def _send(self, client: Any, request: Request, tokens_key: str) -> dict[str, Any]:
        settings = {tokens_key if name == "max_tokens" else name: value for name, value in request.settings}
        completion = client.chat.completions.create(
            model=self.model,
            messages=[{"role": role, "content": content} for role, content in request.messages],
            **settings,
        )
        reply = json.loads(self.endpoint.redacted(completion.model_dump_json(exclude_none=True)))
        if not reply.get("choices"):
            raise ValueError("a reply without choices")
        return reply

    def _back_off(self, attempt: int, told: str, retry_after: str | None) -> None:
        if attempt + 1 == self._attempts or self._stop.is_set():
            raise InterruptedRun(
                f"{self.endpoint.host} gave no reply ({told}); what it answered is kept\n"
                "    to do:  the same command goes on where it stopped"
            )
        seconds = min(LONGEST_WAIT_S, self._first_wait * 2**attempt) * (0.5 + random.random() / 2)
        if retry_after is not None and retry_after.strip().isdigit():
            seconds = min(LONGEST_WAIT_S, float(retry_after))
        self._stop.wait(seconds)


def without_reasoning(reply: Reply) -> Reply:
    """Return a reply without what a reasoning model thought before it."""
    _, found, after = reply.text.rpartition("</think>")
    return replace(reply, text=after.strip()) if found else reply


def _read(kept: dict[str, Any]) -> Reply:
    if "raw" not in kept:
        return Reply(error=kept.get("error", "no reply"))
    choice = kept["raw"]["choices"][0]
    return Reply(
        text=(choice.get("message") or {}).get("content") or "",
        finish=choice.get("finish_reason") or "",
        tokens=(kept["raw"].get("usage") or {}).get("completion_tokens") or 0,
        first_token=_first_token(choice),
    )


def _first_token(choice: dict[str, Any]) -> dict[str, float] | None:
    content = (choice.get("logprobs") or {}).get("content") or []
    if not content or not content[0].get("top_logprobs"):
        return None
    return {str(each["token"]): float(each["logprob"]) for each in content[0]["top_logprobs"]}


def _refused(endpoint: Endpoint, model: str, told: str) -> str:
    from poise.evaluate.endpoint import key_variable

    return (
        f"{endpoint.url} refuses {model!r} ({told})\n"
        f"    to do:  check the model's name and the key in {key_variable(endpoint.host)}"
    )


def _client(endpoint: Endpoint, timeout: float) -> Any:
    try:
        import httpx2
        import openai
    except ImportError:
        raise ModelError("asking a server needs openai\n    to do:  pip install 'poise[judge]'") from None
    http = httpx2.Client(transport=endpoint.transport(), follow_redirects=False, trust_env=False, timeout=timeout)
    # The key is the transport's business alone; this one never leaves the process.
    return openai.OpenAI(api_key="unused", base_url=endpoint.url, http_client=http, max_retries=0, timeout=timeout)
