"""Prompts and their answers on the wire, as the Synadia Agent Protocol has them.

A prompt is text, or a JSON object with `prompt`. The answer is a stream on its reply subject: an acknowledgement, parts
of the text, and an empty message without headers as the end. An error is one more message before the end, with the
headers of ADR-32. Further acknowledgements say that the agent is at it still, for the caller hangs up after a minute
without a word.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.errors import (
    STATUS_HEADER,
    ConflictError,
    Detail,
    InvalidRequestError,
    PayloadTooLargeError,
    RegistryError,
    UnavailableError,
)
from agents_sdk.protocol.faults import kind_of

MAX_PROMPT = "1MB"
MAX_PROMPT_BYTES = 1024 * 1024
"""Larger prompts are refused; `MAX_PROMPT` says the same in the protocol's own words."""

PART = 64 * 1024
"""Characters of an answer in one message at most; as JSON they are below the limit of any usual NATS server."""

ACK = encode({"type": "status", "data": "ack"})
END = b""

_STATUSES = {
    PayloadTooLargeError.status: InvalidRequestError.status,
    UnavailableError.status: ConflictError.status,
}
"""Statuses that the protocol does not know, and what it says instead."""


def read_prompt(payload: bytes) -> str:
    """Return the text of a prompt.

    Raises:
        PayloadTooLargeError: Above `MAX_PROMPT_BYTES`.
        InvalidRequestError: If it is neither text nor a JSON object with a `prompt`, or has attachments.
    """
    if len(payload) > MAX_PROMPT_BYTES:
        raise PayloadTooLargeError(f"payload: {len(payload)} bytes; at most {MAX_PROMPT_BYTES} are read")
    if payload.lstrip(b"\t\n\r ").startswith(b"{"):
        return _prompt_in(payload)
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise _wrong("payload", "is neither UTF-8 text nor a JSON object") from None
    if not text:
        raise _wrong("prompt", "must not be empty")
    return text


def _prompt_in(payload: bytes) -> str:
    try:
        envelope = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise _wrong("payload", f"begins like a JSON object, and is none: {error}") from None
    prompt = envelope.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        given = "an empty one" if prompt == "" else kind_of(prompt)
        raise _wrong("prompt", f"must be a text of one character or more; is {given}")
    if envelope.get("attachments"):
        raise _wrong("attachments", "are not taken by this agent; send none")
    return prompt


def parts(text: str) -> Iterator[bytes]:
    """Yield the messages that a text makes: one, or more for a long one. Callers put them together again."""
    for start in range(0, max(1, len(text)), PART):
        yield encode({"type": "response", "data": text[start : start + PART]})


def refusal(error: RegistryError) -> tuple[bytes, dict[str, str]]:
    """Return payload and headers of an error."""
    status = str(_STATUSES.get(error.status, error.status))
    body = {"error": error.code, "message": error.message, "retryable": error.retryable}
    return encode(body), {**error.to_headers(), STATUS_HEADER: status}


def _wrong(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: {message}", [Detail(field, message)])
