"""`agent-registry schema`: the wire contract, without NATS."""

from __future__ import annotations

from importlib.metadata import version

from agents_sdk.protocol.schema.asyncapi import asyncapi
from agents_sdk.protocol.schema.json_schema import all_schemas, schema_of
from agents_sdk.protocol.subjects import Subjects
from tests.cli.conftest import Do

VERSION = version("agent-registry")


def test_it_prints_the_asyncapi_document(do: Do) -> None:
    code, out, err = found = do("schema")
    assert (code, err) == (0, "")
    assert found.document == asyncapi(Subjects(), VERSION)
    assert out.endswith("\n}\n")


def test_of_another_prefix(do: Do) -> None:
    assert do("schema", "--prefix", "eu.agents").document == asyncapi(Subjects("eu.agents"), VERSION)


def test_json_schemas_of_all_messages_or_of_one(do: Do) -> None:
    assert do("schema", "--json-schema").document == all_schemas()
    assert do("schema", "--json-schema", "Receipt").document == schema_of("Receipt")
    assert do("schema", "Receipt").document == schema_of("Receipt")
