"""Asking for the contract."""

from __future__ import annotations

from enum import StrEnum

from agents_sdk.protocol.fields import Name
from agents_sdk.protocol.model import Command, Reply


class SchemaFormat(StrEnum):
    """In which form the contract is wanted."""

    ASYNCAPI = "asyncapi"
    JSON_SCHEMA = "json-schema"


class SchemaQuery(Command):
    """In which form to show the contract, and which part of it."""

    format: SchemaFormat | None = None
    """`asyncapi`, unless a message is named."""
    name: Name | None = None
    """The message whose JSON Schema is wanted; with `json-schema`, all when left out."""


class Document(Reply):
    """An AsyncAPI 3.0 document, or a JSON Schema: as it stands, so that it can be kept as a file."""
