"""Where NATS is: what people write, and what they are told of it."""

from __future__ import annotations

import pytest

from agents_sdk import InvalidRequestError, RegistryClient
from agents_sdk.dial import Address
from agents_sdk.servers import DEFAULT_URL, server_urls, without_password


def test_the_servers_are_those_given_else_the_environments_else_this_machines(monkeypatch) -> None:
    monkeypatch.delenv("NATS_URL", raising=False)
    assert server_urls() == (DEFAULT_URL,)
    monkeypatch.setenv("NATS_URL", "nats://b:1")
    assert server_urls() == ("nats://b:1",)
    assert server_urls("nats://a:1, nats://c:2,") == ("nats://a:1", "nats://c:2")


@pytest.mark.parametrize("text", [",", " , ", "nats://[::1", "nats:///nowhere", "a:b", "nats://a:99999"])
def test_what_names_no_server_is_refused_when_it_is_written(text: str, monkeypatch) -> None:
    with pytest.raises(InvalidRequestError, match="nats: ") as raised:
        RegistryClient(text)
    assert raised.value.details[0].field == "nats"
    monkeypatch.setenv("NATS_URL", text)
    with pytest.raises(ValueError, match="nats: "):
        RegistryClient()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://me:secret@a:1", "nats://a:1"),
        ("token@b:2", "b:2"),
        ("c:3", "c:3"),
        ("nats://me:s://e@cret@[::1", "nats://[::1"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert str(Address((url, "d:4"))) == f"{shown}, d:4"


def test_no_password_is_in_a_refusal() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        server_urls("nats://me:secret/y@a:1")
    assert "secret" not in raised.value.message
