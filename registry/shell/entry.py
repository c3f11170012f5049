"""One entry of a bucket's log, as JetStream's key-value buckets lay it down in a message (ADR-8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a bucket's log. `value` is empty for a removal made by hand, and for one that was swept."""

    key: str
    revision: int
    value: bytes
    removed: bool
    swept: bool
    """Whether nothing older of the key is left."""
    pending: int
    """Entries that follow before the log is caught up with."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a bucket's log reaches. In one that was made at another instant the same revisions are others."""

    made: str
    """When the bucket was made, in Unix milliseconds."""
    last: int
    """The newest revision that it ever had."""


OnEntry = Callable[[Entry], Awaitable[None]]


def position(reply: str) -> tuple[int, int]:
    """Return the sequence in the stream, and how many messages follow, from a consumer's reply subject (ADR-15).

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, with domain and account
    before the stream where there are domains.
    """
    tokens = reply.split(".")
    first = 2 if len(tokens) < 11 else 4
    return int(tokens[first + 3]), int(tokens[first + 6])


def entry_of(key: str, revision: int, value: bytes, headers: Mapping[str, str] | None, pending: int) -> Entry:
    """Return the entry that a message of a bucket's stream is.

    Args:
        key: Its key.
        revision: Its sequence in the stream.
        value: Its payload.
        headers: Its headers, which say whether it removes the key.
        pending: Entries that follow.
    """
    headers = headers or {}
    operation = headers.get("KV-Operation")
    swept = operation == "PURGE" or "Nats-Marker-Reason" in headers
    return Entry(key, revision, value, swept or operation == "DEL", swept, pending)
