"""Where a judge or a served model answers: an URL that is checked, resolved once, and given only the key of its host.

The key of a host is read from the environment, from a variable that carries the host's name, so that no recipe and no
command line can send a key to another host: `https://api.together.xyz/v1` gets `POISE_KEY_API_TOGETHER_XYZ`, and
`https://api.openai.com/v1` also `OPENAI_API_KEY`.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from poise.errors import RecipeError

if TYPE_CHECKING:
    import httpx2

OPENAI_HOST = "api.openai.com"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
SENT_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}
)
"""All that leaves besides the key: the client library would add what it finds in the environment, for whatever host."""

Resolve = Callable[[str, int], list[str]]


@dataclass(frozen=True)
class Endpoint:
    """A checked base URL; `address` is what its host resolved to, once."""

    url: str
    host: str
    port: int
    address: str
    key: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.host in LOOPBACK_NAMES

    def transport(self) -> "httpx2.BaseTransport":
        """Return what connects to the resolved address and nowhere else, whatever a request names."""
        return _pinned_transport(self)

    def redacted(self, text: str) -> str:
        """Return a text without the key, should a server have sent it back."""
        return text.replace(self.key, "[key]") if self.key else text


def open_endpoint(url: str, resolve: Resolve | None = None) -> Endpoint:
    """Check an URL and resolve its host.

    Raises:
        RecipeError: it is not https (or http on this machine), holds more than host, port and path, or leads to an
            address that is no public one.
    """
    parts = urlsplit(url)
    try:
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise _refusal(url, "its port is no number", "write https://host:port/v1") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise _refusal(
            _without_secrets(url),
            "it holds more than a host, a port and a path",
            f"put the key into the environment as {key_variable(host)}",
        )
    if parts.scheme not in ("http", "https") or not host:
        raise _refusal(url, "it is no http address", "write https://host/v1, or http://127.0.0.1:8000/v1")
    if parts.scheme == "http" and host not in LOOPBACK_NAMES:
        raise _refusal(
            url,
            "plain http would show questions, answers and key to everybody on the way",
            "use https, or a tunnel to http://127.0.0.1:PORT",
        )
    port = port or (443 if parts.scheme == "https" else 80)
    address = _address(url, host, (resolve or _resolve)(host, port))
    return Endpoint(url.rstrip("/"), host, port, address, _key(host))


def key_variable(host: str) -> str:
    """Name the environment variable that holds the key of a host."""
    return "POISE_KEY_" + re.sub(r"[^A-Z0-9]+", "_", host.upper()).strip("_")


def _key(host: str) -> str | None:
    own = os.environ.get(key_variable(host))
    return own or (os.environ.get("OPENAI_API_KEY") if host == OPENAI_HOST else None) or None


def _resolve(host: str, port: int) -> list[str]:
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise RecipeError(f"cannot find {host} ({error})\n    to do:  check the address, or the network") from None


def _address(url: str, host: str, found: Sequence[str]) -> str:
    """Return the first address; all must be public, or all this machine's where this machine was named."""
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        named_loopback = host in LOOPBACK_NAMES
        if named_loopback != inner.is_loopback or not (named_loopback or (inner.is_global and not inner.is_multicast)):
            raise _refusal(
                url,
                f"{host} leads to {text}, inside a private network",
                "for a server of your own use a tunnel to http://127.0.0.1:PORT",
            )
    if not found:
        raise _refusal(url, f"{host} has no address", "check the address")
    return found[0]


def _refusal(url: str, why: str, remedy: str) -> RecipeError:
    return RecipeError(f"{url} is not used: {why}\n    to do:  {remedy}")


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _pinned_transport(endpoint: Endpoint) -> "httpx2.BaseTransport":
    import httpx2

    class Pinned(httpx2.HTTPTransport):
        """Sends to one address, with one key, and drops every header that nobody asked for."""

        def handle_request(self, request: Any) -> Any:
            if (request.url.host, request.url.port or endpoint.port) != (endpoint.host, endpoint.port):
                raise httpx2.ConnectError(f"refused to leave {endpoint.host} for {request.url.host}")
            headers = {key: value for key, value in request.headers.items() if key.lower() in SENT_HEADERS}
            if endpoint.key:
                headers["authorization"] = f"Bearer {endpoint.key}"
            pinned = httpx2.Request(
                request.method,
                request.url.copy_with(host=endpoint.address),
                headers=headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": endpoint.host},
            )
            return super().handle_request(pinned)

    return Pinned(trust_env=False)
