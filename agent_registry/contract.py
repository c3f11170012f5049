"""The wire contract, for programs: schema."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from agent_registry.failure import CommandError, Exit
from agent_registry.options import Prefix
from agent_registry.output import emit


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="MESSAGE", help="One message, such as Registration.", show_default=False),
    ] = None,
    *,
    as_json_schema: Annotated[
        bool,
        typer.Option("--json-schema", metavar="", help="JSON Schemas: of one message, or of all in one document."),
    ] = False,
    prefix: Prefix = "registry",
) -> None:
    """Print the wire contract as an AsyncAPI 3.0 document, or as JSON Schemas; needs no NATS."""
    from agents_sdk.protocol.codec import adapter, check
    from agents_sdk.protocol.errors import InvalidRequestError
    from agents_sdk.protocol.schema.document import document
    from agents_sdk.protocol.schema.query import SchemaFormat, SchemaQuery
    from agents_sdk.protocol.subjects import Subjects

    wanted = SchemaFormat.JSON_SCHEMA if as_json_schema else None
    try:
        query = check(adapter(SchemaQuery), {"format": wanted, "name": name})
        found = document(query, Subjects(prefix), version("agent-registry"))
    except InvalidRequestError as error:
        message = error.message.removeprefix("name: ")
        raise CommandError(f"MESSAGE: {message}", "see: agent-registry schema --help", Exit.USAGE) from error
    emit(found)
