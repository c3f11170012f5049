"""Where NATS is: URLs, as people write them."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from agents_sdk.protocol.errors import Detail, InvalidRequestError

DEFAULT_URL = "nats://127.0.0.1:4222"


def server_urls(nats: str | None = None) -> tuple[str, ...]:
    """Return the servers to use: those given, else those of `NATS_URL`, else this machine's.

    Args:
        nats: URLs, comma-separated.

    Raises:
        InvalidRequestError: If there is none among them, or one is no URL.
    """
    text = nats or os.environ.get("NATS_URL") or DEFAULT_URL
    urls = tuple(url.strip() for url in text.split(",") if url.strip())
    if not urls:
        raise _refusal(text, "names no server")
    for url in urls:
        if not _names_a_server(url):
            raise _refusal(without_password(url), "is not the URL of a NATS server, such as nats://host:4222")
    return urls


def without_password(url: str) -> str:
    """Return the URL as people may see it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url.rpartition("@")[2]


def _names_a_server(url: str) -> bool:
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # it tells what it could not read, which may be a password
        return False


def _refusal(shown: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"nats: {shown!r} {why}", [Detail("nats", why)])
