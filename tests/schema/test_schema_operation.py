"""`registry.schema` answers with the contract, and the endpoints of the micro service carry it."""

from __future__ import annotations

import json

import pytest
from nats.aio.client import Client

from agents_sdk.protocol.operations import OPERATIONS
from agents_sdk.protocol.schema.asyncapi import asyncapi
from agents_sdk.protocol.schema.json_schema import all_schemas, schema_of
from agents_sdk.protocol.subjects import Subjects
from registry.replica import VERSION, Replica
from registry.settings import Settings
from tests.contract.wire import ask, assert_error, told


async def test_without_a_word_it_is_the_asyncapi_document(registry: Replica, nc: Client) -> None:
    document = asyncapi(Subjects(), VERSION)
    assert await told(nc, "registry.schema") == document
    assert await told(nc, "registry.schema", {"format": "asyncapi"}) == document


async def test_json_schemas_one_or_all(registry: Replica, nc: Client) -> None:
    assert await told(nc, "registry.schema", {"format": "json-schema"}) == all_schemas()
    for request in ({"name": "Registration"}, {"format": "json-schema", "name": "Registration"}):
        assert await told(nc, "registry.schema", request) == schema_of("Registration")


async def test_who_misspells_a_message_is_told_what_it_is_called(registry: Replica, nc: Client) -> None:
    answer = await ask(nc, "registry.schema", {"name": "Registraton"})
    assert_error(answer, "invalid_request", "name")
    assert "did you mean 'Registration'?" in answer.body["error"]["message"]
    answer = await ask(nc, "registry.schema", {"name": "x"})
    assert "there are Ack, " in answer.body["error"]["message"]


class TestAnotherPrefix:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(prefix="eu.agents")

    async def test_the_document_is_of_this_registry(self, registry: Replica, nc: Client) -> None:
        document = await told(nc, "eu.agents.schema")
        assert document["components"]["parameters"]["prefix"]["default"] == "eu.agents"
        assert document["operations"]["register"]["bindings"]["nats"]["queue"] == "eu-agents"


async def test_endpoints_carry_the_schemas(registry: Replica, nc: Client) -> None:
    msg = await nc.request("$SRV.INFO.registry", b"", timeout=5)
    assert len(msg.data) < 256 * 1024, "an answer has to fit into a message, with room for more operations"
    endpoints = {one["name"]: one["metadata"] for one in json.loads(msg.data)["endpoints"]}
    for name, operation in OPERATIONS.items():
        metadata = endpoints[name.replace(".", "-")]
        assert set(metadata) == {"description", "request_schema", "response_schema"}
        assert metadata["description"] == operation.summary
        assert json.loads(metadata["request_schema"]) == schema_of(operation.request.__name__)
        assert json.loads(metadata["response_schema"]) == schema_of(operation.reply.__name__)
