"""The registry is a NATS micro service as ADR-32 describes one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from agents_sdk.protocol import subjects
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests import nats_cli
from tests.contract.wire import TRADER, ask, decoded, encoded, is_served, listening, settle, told

NAME = r"^[a-zA-Z0-9_-]+$"
SEMVER = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Identity(_Strict):
    """What all three responses have. From ADR-32, section "Service schemas", and jsm.go's `schemas/micro/v1`."""

    type: StrictStr
    name: StrictStr = Field(pattern=NAME)
    id: StrictStr = Field(min_length=1, pattern=NAME)
    version: StrictStr = Field(pattern=SEMVER)
    metadata: dict[str, StrictStr]


class InfoEndpoint(_Strict):
    """An endpoint as INFO shows it."""

    name: StrictStr = Field(pattern=NAME)
    subject: StrictStr = Field(pattern=r"^[^ >]+>?$")
    queue_group: StrictStr
    metadata: dict[str, StrictStr]


class Info(Identity):
    """`io.nats.micro.v1.info_response`."""

    description: StrictStr = Field(min_length=1)
    endpoints: list[InfoEndpoint]


class StatsEndpoint(_Strict):
    """An endpoint as STATS shows it; times in nanoseconds."""

    name: StrictStr = Field(pattern=NAME)
    subject: StrictStr
    queue_group: StrictStr
    num_requests: StrictInt = Field(ge=0)
    num_errors: StrictInt = Field(ge=0)
    last_error: StrictStr
    processing_time: StrictInt = Field(ge=0)
    average_processing_time: StrictInt = Field(ge=0)


class Stats(Identity):
    """`io.nats.micro.v1.stats_response`."""

    started: StrictStr = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
    endpoints: list[StatsEndpoint]


VERBS = {"PING": Identity, "INFO": Info, "STATS": Stats}
ENDPOINTS = {name.replace(".", "-"): f"registry.{name}" for name in subjects.OPERATIONS}


@pytest.mark.parametrize("verb", VERBS)
async def test_three_forms_of_each_verb_give_the_same_answer(registry: Replica, nc: Client, verb: str) -> None:
    answers = []
    for suffix in ("", ".registry", f".registry.{registry.replica_id}"):
        body = await told(nc, f"$SRV.{verb}{suffix}")
        VERBS[verb].model_validate(body)
        assert body["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
        assert (body["name"], body["id"]) == ("registry", registry.replica_id)
        answers.append(body)
    assert answers[0] == answers[1] == answers[2]
    assert not await is_served(nc, f"$SRV.{verb}.other")
    assert not await is_served(nc, f"$SRV.{verb}.registry.other")


async def test_info_lists_every_endpoint(registry: Replica, nc: Client) -> None:
    info = await told(nc, "$SRV.INFO.registry")
    assert {one["name"]: one["subject"] for one in info["endpoints"]} == ENDPOINTS
    for one in info["endpoints"]:
        operation = one["name"].replace("scaling-", "scaling.")
        assert one["queue_group"] == ("registry" if operation in subjects.SHARED else "")


async def test_stats_are_honest(registry: Replica, nc: Client) -> None:
    """Each request is counted once its answer is out, its bound form too; errors are errors; time is the whole time."""
    before = datetime.now(UTC)
    await told(nc, "registry.register", TRADER)
    await told(nc, "registry.register.trader-2", {**TRADER, "agent_id": "trader-2"})
    await ask(nc, "registry.register", TRADER)
    await nc.publish("registry.heartbeat.trader-1", b"")
    await nc.publish("registry.heartbeat.nobody", b"")
    await ask(nc, "registry.heartbeat.nobody")
    await ask(nc, "registry.scaling.get")
    stats = await told(nc, "$SRV.STATS.registry")
    counted = {one["name"]: one for one in stats["endpoints"]}
    assert set(counted) == set(ENDPOINTS)
    numbers = {name: (one["num_requests"], one["num_errors"]) for name, one in counted.items()}
    assert {name: pair for name, pair in numbers.items() if pair != (0, 0)} == {
        "register": (3, 1), "heartbeat": (3, 2), "scaling-get": (1, 0),
    }  # fmt: skip
    assert counted["register"]["last_error"].startswith("already_registered: ")
    assert counted["register"]["processing_time"] > 0
    assert counted["register"]["average_processing_time"] == counted["register"]["processing_time"] // 3
    assert counted["discover"]["average_processing_time"] == 0
    assert datetime.fromisoformat(stats["started"]) <= before


async def test_every_replica_answers_for_itself(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    other = Replica(registry.settings, nats_server.url)
    await other.start()
    try:
        inbox = nc.new_inbox()
        async with listening(nc, inbox) as answers:
            await nc.publish("$SRV.PING.registry", b"", reply=inbox)
            ids = {decoded(msg.data)["id"] for msg in await answers.take(2)}
        assert ids == {registry.replica_id, other.replica_id}
    finally:
        await other.stop()


async def test_a_replica_that_stops_answers_what_it_was_asked(nats_server: NatsServer, nc: Client) -> None:
    replica = Replica(Settings(), nats_server.url)
    await replica.start()
    inbox = nc.new_inbox()
    async with listening(nc, inbox) as answers:
        for number in range(50):
            request = {**TRADER, "agent_id": f"trader-{number}"}
            await nc.publish("registry.register", encoded(request), reply=inbox)
        await settle(nc)
        await replica.stop()
        receipts = [decoded(msg.data) for msg in await answers.take(50)]
    assert {one["agent_id"] for one in receipts} == {f"trader-{number}" for number in range(50)}


# The real `nats` command, which shows nothing of a service that is not what its schemas say.


Cli = Callable[..., Awaitable[str]]


@pytest.fixture
def cli(nats_server: NatsServer, tmp_path: Path) -> Cli:
    """Runs the command to its end, and returns what it prints."""
    binary, environment = nats_cli.find(), nats_cli.environment(tmp_path, nats_server.url)

    async def run(*args: str) -> str:
        process = await asyncio.create_subprocess_exec(
            binary, *args, env=environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, output.decode()
        return output.decode()

    return run


async def test_the_nats_cli_lists_it(registry: Replica, cli: Cli) -> None:
    assert re.search(rf"registry .*{registry.replica_id}", await cli("micro", "ls"))


async def test_the_nats_cli_shows_its_endpoints(registry: Replica, cli: Cli) -> None:
    shown = await cli("micro", "info", "registry")
    for name, subject in ENDPOINTS.items():
        assert re.search(rf"Name: {name}\n\s+Subject: {re.escape(subject)}\n", shown), name


async def test_the_nats_cli_shows_its_counts(registry: Replica, cli: Cli, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    assert re.search(r"register\s+│ 1 ", await cli("micro", "stats", "registry"))


async def test_the_nats_cli_pings_it(registry: Replica, cli: Cli) -> None:
    assert registry.replica_id in await cli("micro", "ping", "registry", "--timeout=1s")


async def test_the_nats_cli_asks_it_by_the_names_of_its_endpoints(registry: Replica, cli: Cli) -> None:
    assert '"leader":true' in await cli("micro", "request", "registry", "replicas", "")


async def test_the_nats_cli_shows_who_an_agent_is_and_how_it_is(registry: Replica, cli: Cli, nc: Client) -> None:
    """Without `--raw` the first 120 bytes of the record, whatever the agent has."""
    await told(nc, "registry.register", {**TRADER, "tags": [f"tag-{number}" for number in range(50)]})
    shown = await cli("kv", "get", "registry_agents", "trader-1")
    assert '{"v":1,"agent_id":"trader-1","status":"active","status_reason":"registered","agent_type":' in shown


async def test_the_nats_cli_shows_an_error_above_its_answer(registry: Replica, cli: Cli) -> None:
    shown = await cli("req", "registry.get.nobody", "")
    assert re.search(r"Nats-Service-Error-Code: 404$", shown, re.MULTILINE)
    assert re.search(r"Nats-Service-Error: agent_id: no agent 'nobody' is registered$", shown, re.MULTILINE)
    assert '{"error":{"code":"not_found","message":"agent_id: no agent \'nobody\' is registered",' in shown
