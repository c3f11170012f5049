"""The contract in the form that is asked for."""

from __future__ import annotations

import difflib
from typing import Any

from agents_sdk.protocol.errors import Detail, InvalidRequestError
from agents_sdk.protocol.schema.asyncapi import asyncapi
from agents_sdk.protocol.schema.json_schema import all_schemas, definitions, schema_of
from agents_sdk.protocol.schema.query import SchemaFormat, SchemaQuery
from agents_sdk.protocol.subjects import Subjects


def document(query: SchemaQuery, subjects: Subjects, version: str) -> dict[str, Any]:
    """Return an AsyncAPI document, or a JSON Schema of one message or of all.

    Args:
        query: What is wanted.
        subjects: The registry's.
        version: Of the registry's software.

    Raises:
        InvalidRequestError: If there is no message of that name, or one is named for AsyncAPI.
    """
    if query.name is None:
        return asyncapi(subjects, version) if query.format is not SchemaFormat.JSON_SCHEMA else all_schemas()
    if query.format is SchemaFormat.ASYNCAPI:
        raise _refusal("is for `json-schema`; an AsyncAPI document is of all messages")
    if query.name not in definitions():
        near = difflib.get_close_matches(query.name, definitions(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(definitions()))}"
        raise _refusal(f"no message is called {query.name!r}; {hint}")
    return schema_of(query.name)


def _refusal(message: str) -> InvalidRequestError:
    return InvalidRequestError(f"name: {message}", [Detail("name", message)])
