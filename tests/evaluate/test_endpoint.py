"""Endpoints: which URLs are refused, and that a name is resolved once."""

from collections.abc import Callable
from typing import Any

import pytest

from poise.errors import RecipeError
from poise.evaluate.endpoint import key_variable, open_endpoint

PUBLIC = "93.184.215.14"


def leads_to(*addresses: str) -> Callable[[str, int], list[str]]:
    return lambda host, port: list(addresses)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("http://169.254.169.254/v1", ["169.254.169.254"]),
        ("https://169.254.169.254/v1", ["169.254.169.254"]),
        ("https://metadata.example/v1", ["169.254.169.254"]),
        ("https://2852039166/v1", ["169.254.169.254"]),
        ("https://0xa9fea9fe/v1", ["169.254.169.254"]),
        ("https://[::ffff:169.254.169.254]/v1", ["::ffff:169.254.169.254"]),
        ("https://[fd00:ec2::254]/v1", ["fd00:ec2::254"]),
        ("https://[fe80::1]/v1", ["fe80::1%eth0"]),
        ("https://10.0.0.8/v1", ["10.0.0.8"]),
        ("https://judge.example/v1", ["192.168.1.7"]),
        ("https://judge.example/v1", [PUBLIC, "10.1.2.3"]),
        ("https://judge.example/v1", ["127.0.0.1"]),
        ("https://judge.example/v1", ["::1"]),
        ("https://judge.example/v1", ["0.0.0.0"]),
        ("https://judge.example/v1", ["100.64.0.1"]),
        ("https://judge.example/v1", ["2002:a9fe:a9fe::"]),
        ("https://judge.example/v1", ["224.0.0.1"]),
        ("https://judge.example/v1", []),
        ("http://localhost/v1", [PUBLIC]),
        ("http://judge.example/v1", [PUBLIC]),
        ("http://127.0.0.1.evil.example/v1", [PUBLIC]),
        ("https://user:secret@judge.example/v1", [PUBLIC]),
        ("https://judge.example/v1?key=secret", [PUBLIC]),
        ("https://judge.example/v1#secret", [PUBLIC]),
        ("ftp://judge.example/v1", [PUBLIC]),
        ("file:///etc/passwd", [PUBLIC]),
        ("https://judge.example:http/v1", [PUBLIC]),
        ("judge.example/v1", [PUBLIC]),
    ],
)
def test_an_address_that_could_reach_inside_or_show_a_secret_is_refused(url: str, addresses: list[str]) -> None:
    with pytest.raises(RecipeError, match="is not used") as caught:
        open_endpoint(url, leads_to(*addresses))
    assert "secret@" not in str(caught.value)
    assert "key=secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address", "port"),
    [
        ("https://api.example/v1/", PUBLIC, 443),
        ("https://api.example:8443/v1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", 8443),
        ("http://127.0.0.1:8000/v1", "127.0.0.1", 8000),
        ("http://localhost:8000/v1", "::1", 8000),
    ],
)
def test_a_public_https_address_and_this_machine_are_used(url: str, address: str, port: int) -> None:
    endpoint = open_endpoint(url, leads_to(address))
    assert (endpoint.url, endpoint.address, endpoint.port) == (url.rstrip("/"), address, port)
    assert endpoint.is_local == (not url.startswith("https"))


def test_a_key_belongs_to_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("POISE_KEY_API_OTHER_EXAMPLE", "other")
    public = leads_to(PUBLIC)
    assert open_endpoint("https://api.openai.com/v1", public).key == "sk-openai"
    assert open_endpoint("https://api.other.example/v1", public).key == "other"
    assert open_endpoint("https://api.openai.com.evil.example/v1", public).key is None
    assert key_variable("api.together.xyz") == "POISE_KEY_API_TOGETHER_XYZ"
    assert "sk-openai" not in repr(open_endpoint("https://api.openai.com/v1", public))


def test_the_transport_connects_to_the_address_that_was_checked_whatever_the_name_leads_to_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    httpx2 = pytest.importorskip("httpx2")
    reached: list[tuple[str, str, str]] = []

    def record(self: object, request: Any) -> Any:
        reached.append((request.url.host, request.headers["host"], request.extensions["sni_hostname"]))
        return httpx2.Response(200)

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", record)
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    endpoint = open_endpoint("https://judge.example/v1", lambda host, port: next(answers))
    with httpx2.Client(transport=endpoint.transport()) as client:
        client.get("https://judge.example/v1/models")
        client.get("https://judge.example/v1/models")
        with pytest.raises(httpx2.ConnectError, match="refused to leave"):
            client.get("https://elsewhere.example/v1/models")
    assert reached == [(PUBLIC, "judge.example", "judge.example")] * 2
