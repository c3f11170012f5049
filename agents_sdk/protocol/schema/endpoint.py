"""What the endpoint of an operation says of itself when the micro service is asked for it."""

from __future__ import annotations

from typing import Any

from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.operations import OPERATIONS
from agents_sdk.protocol.schema.json_schema import schema_of


def metadata_of(operation: str) -> dict[str, str]:
    """Return the metadata of an operation's endpoint: ADR-32 has texts there, so the schemas are JSON in a text."""
    found = OPERATIONS[operation]
    return {
        "description": found.summary,
        "request_schema": _schema(found.request),
        "response_schema": _schema(found.reply),
    }


def _schema(message: Any) -> str:
    name = message.__name__
    return encode({"title": name, **schema_of(name)}).decode()  # the name first: tools show how a text begins
