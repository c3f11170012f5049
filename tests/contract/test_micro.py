"""The registry is a NATS micro service as ADR-32 describes one."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from datetime import UTC, datetime

import pytest
from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from agents_sdk.protocol import subjects
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
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


async def _cli(nats_server: NatsServer, *args: str) -> str:
    binary = os.environ.get("AGENT_REGISTRY_NATS_CLI") or shutil.which("nats")
    if binary is None:
        pytest.skip("there is no `nats` CLI: put it on PATH or name it in AGENT_REGISTRY_NATS_CLI")
    process = await asyncio.create_subprocess_exec(
        binary, "--server", nats_server.url, *args,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_nats_cli_lists_it(registry: Replica, nats_server: NatsServer) -> None:
    assert re.search(rf"registry .*{registry.replica_id}", await _cli(nats_server, "micro", "ls"))


async def test_the_nats_cli_shows_its_endpoints(registry: Replica, nats_server: NatsServer) -> None:
    shown = await _cli(nats_server, "micro", "info", "registry")
    for name, subject in ENDPOINTS.items():
        assert re.search(rf"Name: {name}\n\s+Subject: {re.escape(subject)}\n", shown), name


async def test_the_nats_cli_shows_its_counts(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    shown = await _cli(nats_server, "micro", "stats", "registry")
    assert re.search(r"register\s+│ 1 ", shown)


async def test_the_nats_cli_pings_it(registry: Replica, nats_server: NatsServer) -> None:
    assert registry.replica_id in await _cli(nats_server, "--timeout", "500ms", "micro", "ping", "registry")
