"""Services that nobody changed for the registry: adopted, found, ranked, assigned, killed. None is of ours."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import orjson
import pytest
from nats.aio.client import Client
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import Service
from synadia_ai.agents import Agents

from agents_sdk import Agent, NotBegunError, RegistryClient, ServiceQuery, Synadia, UnavailableError
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests import nats_cli
from tests.conftest import Start, eventually
from tests.contract.wire import (
    TRADER,
    agent,
    ask,
    found,
    listening,
    moves,
    payloads,
    stats,
    stored_events,
    told,
    until_status,
)

METADATA = {"capabilities": "trading", "tags": "eu", "max_concurrency": "2"}


@pytest.fixture
def settings() -> Settings:
    return Settings(reconnect_grace=0.0, health_check_interval=0.5, adopt="micro,synadia", adopt_interval=0.3)


@asynccontextmanager
async def serving(url: str, name: str = "quotes", work: float = 0.0, **options: Any) -> AsyncIterator[Service]:
    """A micro service of nats-py, with an endpoint, on a connection of its own."""
    client = await nats.connect(url)

    async def quote(request: Request) -> None:
        await asyncio.sleep(work)
        if request.data == b'{"fail":true}':
            raise ValueError("no price")
        await request.respond(b'{"price": 42.0}')

    service = await add_service(client, **{"name": name, "version": "1.2.0", "description": "Prices", **options})
    await service.add_endpoint(name="quote", subject=f"{name}.quote", handler=quote)
    try:
        yield service
    finally:
        await client.close()


@asynccontextmanager
async def process(*words: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """A process, which is killed with the test."""
    running = await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=DEVNULL, stdin=DEVNULL, env=env)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def line(running: Process) -> str:
    assert running.stdout is not None
    return (await asyncio.wait_for(running.stdout.readline(), 20.0)).decode().strip()


async def until_found(nc: Client, *ids: str, **query: Any) -> None:
    async def there() -> bool:
        return set(ids) <= set(await found(nc, **query))

    await eventually(there)


async def test_a_micro_service_is_an_agent(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    """Found next to a native agent, called by capability where it serves, and seen offline when it is gone."""
    await told(nc, "registry.register.native", {**TRADER, "agent_id": "native"})
    async with serving(nats_server.url, metadata=METADATA) as service:
        await until_found(nc, service.id, "native", capabilities=["trading"])
        known = await agent(nc, service.id)
        assert (known["agent_type"], known["version"], known["status"]) == ("quotes", "1.2.0", "active")
        assert (known["tags"], known["max_concurrency"]) == (["eu"], 2)
        assert known["metadata"] == {**METADATA, "description": "Prices"}
        endpoints = {"quote": "quotes.quote"}
        assert known["adopted"] == {"protocol": "micro", "service": "quotes", "endpoints": endpoints}
        assert known["health_subject"] == f"$SRV.PING.quotes.{service.id}"
        assert (await agent(nc, "native"))["adopted"] is None
        await told(nc, "registry.deregister.native")
        async with RegistryClient(nats_server.url) as client:
            assert await client.call("trading", "quote", {}) == {"price": 42.0}
            assert (await client.scatter("trading", "quote", quorum="all")).values == [{"price": 42.0}]
            async with listening(nc, "quotes.quote") as heard:
                await client.broadcast("trading", "quote", {"x": 1})
                assert orjson.loads((await heard.next()).data) == {"x": 1}
        assert (await stats(nc))["adopted_agents"] == 1
    gone = await until_status(nc, "offline", service.id)
    assert gone["status_reason"] == "no_responders"
    events = await stored_events(nc, 2, f"registry.events.status.*.{service.id}")
    assert moves(events) == [("registering", "active", "registered"), ("active", "offline", "no_responders")]


async def test_what_a_service_says_nothing_of(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    """Its name is what it can do, whatever this deployment's vocabulary."""
    assert (await ask(nc, "registry.discover", {"capabilities": ["quotes"]})).code == "invalid_request"
    async with serving(nats_server.url, "Quotes") as service:
        await until_found(nc, service.id)
        assert await found(nc, capabilities=["quotes"]) == [service.id]
        names = {one["name"] for one in (await told(nc, "registry.capabilities"))["capabilities"]}
        assert {"quotes", "prompt"} <= names


async def test_load_and_success_are_measured(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    async with serving(nats_server.url, work=0.02, metadata=METADATA) as service:
        await until_found(nc, service.id)
        stop = asyncio.Event()

        async def ask_all_the_time() -> None:
            while not stop.is_set():
                await nc.request("quotes.quote", b'{"fail":true}', timeout=5)

        asking = asyncio.ensure_future(ask_all_the_time())

        known: dict[str, Any] = {}

        async def is_loaded() -> bool:
            known.update(await agent(nc, service.id))
            failing = known["performance_metrics"].get("success_rate", 1.0) == 0.0
            return failing and 0.2 < known["load_factor"] <= 0.6 and known["load_age"] is not None

        await eventually(is_loaded, seen=known)  # one at a time, of the two that it says to take
        stop.set()
        await asking
        assert (await agent(nc, service.id))["performance_metrics"]["avg_response_time"] > 0.015

        async def is_idle() -> bool:
            return bool((await agent(nc, service.id))["load_factor"] == 0.0)

        await eventually(is_idle)


async def test_only_those_that_are_named(start: Start, nats_server: NatsServer, nc: Client) -> None:
    await start(adopt="micro", adopt_services="pay-*, quotes")
    url = nats_server.url
    async with serving(url, "other"), serving(url, "pay-eu") as paying, serving(url) as quoting:
        await until_found(nc, paying.id, quoting.id)
        assert len(await found(nc)) == 2


async def test_what_cannot_be_an_agent_is_told(
    registry: Replica, nats_server: NatsServer, nc: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(nats_server.url, metadata={"capabilities": "tra.ding"}) as service:
        await eventually(lambda: service.id in caplog.text)
    assert "service_not_adopted" in caplog.text
    assert "capabilities[0]: must be 1 to 64 characters" in caplog.text
    assert await found(nc) == []


async def test_one_that_is_deregistered_is_left_alone(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    async with serving(nats_server.url) as service, serving(nats_server.url, "later") as later:
        await until_found(nc, service.id, later.id)
        await told(nc, f"registry.deregister.{service.id}")
        async with serving(nats_server.url, "next") as other:  # by a later call, which it hears, too
            await until_found(nc, other.id)
            assert await found(nc) == sorted([later.id, other.id])


async def test_a_suspended_one_is_not_found(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    async with serving(nats_server.url) as service:
        await until_found(nc, service.id)
        await told(nc, f"registry.suspend.{service.id}")
        assert await found(nc) == []
        assert (await told(nc, f"registry.resume.{service.id}"))["status"] == "active"


async def test_where_a_service_says_that_it_serves_nobody_does_harm(
    start: Start, nats_server: NatsServer, nc: Client
) -> None:
    """The registry asks a Synadia agent for its status with rights of its own, and callers call with theirs."""
    before = await start(adopt="")
    await told(nc, "registry.register.native", {**TRADER, "agent_id": "native"})
    await before.stop()

    async def say_nothing(request: Request) -> None:
        pass

    async with serving(nats_server.url, "agents", metadata={"agent": "eve"}) as service:
        for name, subject in (("status", "registry.deregister.native"), ("x", "$JS.API.STREAM.DELETE.REGISTRY_EVENTS")):
            await service.add_endpoint(name=name, subject=subject, handler=say_nothing)
        await start()
        await until_found(nc, service.id)
        assert (await agent(nc, service.id))["adopted"]["endpoints"] == {"quote": "agents.quote"}
        assert await found(nc, capabilities=["trading"]) == ["native"]


async def test_assigned_as_anyone_is(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    async with serving(nats_server.url, metadata=METADATA) as service, RegistryClient(nats_server.url) as client:
        await until_found(nc, service.id)
        async with await client.assign(ServiceQuery(capabilities={"trading"}), task_id="t1", slots=2) as assignment:
            assert assignment.agent.agent_id == service.id
            assert await assignment.call("quote") == {"price": 42.0}
            assert (await ask(nc, "registry.assign", {"capabilities": ["trading"]})).code == "unavailable"
    lost = await stored_events(nc, 0, "registry.events.assignment.lost.>")
    assert lost == []


async def test_another_leader_goes_on(start: Start, nats_server: NatsServer, nc: Client) -> None:
    """Every replica knows how a service does; the next leader takes it for no new one, and misses nobody."""
    first = await start(leader_lease=1.0)
    async with serving(nats_server.url, work=0.01, metadata=METADATA) as service:
        await until_found(nc, service.id)
        second = await start(leader_lease=1.0)
        for _ in range(10):
            await nc.request("quotes.quote", b"{}", timeout=5)
        measured = second.state.agents
        await eventually(lambda: measured[service.id].metrics.get("requests_served", 0.0) >= 10.0)
        await first.stop()
        await eventually(lambda: second.state.leading)
        async with serving(nats_server.url, "later") as later:
            await until_found(nc, service.id, later.id)
        events = await stored_events(nc, 1, f"registry.events.status.*.{service.id}")
        assert moves(events) == [("registering", "active", "registered")]


async def test_strangers_of_both_kinds_are_killed(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    """Unchanged processes beside a native agent; the Synadia client goes on seeing what it saw."""
    await told(nc, "registry.register.native", {**TRADER, "agent_id": "native"})
    async with process(sys.executable, "-m", "tests.contract.strangers", nats_server.url) as strangers:
        service, talker = await line(strangers), await line(strangers)
        await until_found(nc, service, "native", capabilities=["trading"])
        await until_found(nc, talker, capabilities=["prompt"])
        known = await agent(nc, talker)
        assert (known["agent_type"], known["tags"]) == ("claude-code", ["ada", "main"])
        assert known["metadata"]["owner"] == "ada"
        assert known["metadata"]["session"] == "main"
        assert known["health_subject"] == f"$SRV.PING.agents.{talker}"
        assert (known["heartbeat_interval"], known["adopted"]["protocol"]) == (1.0, "synadia")
        assert known["adopted"]["endpoints"]["prompt"] == "agents.prompt.claude-code.ada.main"
        async with RegistryClient(nats_server.url) as client:
            with pytest.raises(UnavailableError, match=r"prompt it on agents\.prompt\.claude-code\.ada\.main"):
                await client.call("prompt", "prompt", {"prompt": "hello"}, timeout=0.5)
            (answer,) = (await client.scatter("prompt", "prompt", {"prompt": "hello"}, deadline=0.5)).missing
            assert "by a stream" in str(answer.error)
            assignment = await client.assign(ServiceQuery(capabilities={"prompt"}))
            with pytest.raises(NotBegunError, match="by a stream"):
                await assignment.call("prompt", {"prompt": "hello"})
            await assignment.release()
        agents = Agents(nc=nc)
        (seen,) = await agents.discover(timeout=5)
        assert seen.info.instance_id == talker
        chunks = [chunk async for chunk in seen.prompt("hello", timeout=5)]
        assert any("you said hello" in str(chunk) for chunk in chunks)
        os.kill(strangers.pid, signal.SIGKILL)
        for agent_id in (service, talker):
            gone = await until_status(nc, "offline", agent_id, within=5.0)
            assert gone["status_reason"] == "no_responders"
        assert await found(nc) == ["native"]
        await agents.close()
    (event,) = payloads(await stored_events(nc, 1, f"registry.events.status.offline.{talker}"))
    assert (event["agent_type"], event["to"]) == ("claude-code", "offline")


async def test_a_service_in_go_is_found_beside_a_native_agent(
    registry: Replica, nats_server: NatsServer, nc: Client, tmp_path: Path
) -> None:
    """The `nats` command's own demonstration, which says nothing of itself but its name."""
    where = nats_cli.environment(tmp_path, nats_server.url)
    await told(nc, "registry.register.native", {**TRADER, "agent_id": "native"})
    async with process(nats_cli.find(), "service", "serve", "trading", env=where) as serving:
        await eventually(lambda: any(known.record.adopted for known in registry.state.agents.values()))
        both = await found(nc, capabilities=["trading"])
        assert len(both) == 2
        (service,) = set(both) - {"native"}
        await told(nc, "registry.suspend.native")
        async with RegistryClient(nats_server.url) as client:
            assert await client.call("trading", "echo", {"symbol": "BTC"}) == {"symbol": "BTC"}
        serving.kill()
        assert (await until_status(nc, "offline", service))["status_reason"] == "no_responders"


async def test_heartbeats_keep_a_synadia_agent(start: Start, nats_server: NatsServer, nc: Client) -> None:
    """It is known by its first beat, long before services are called again, and by its beats alone."""
    replica = await start(adopt="synadia", adopt_interval=600.0, health_check_interval=600.0)
    async with process(sys.executable, "-m", "tests.contract.strangers", nats_server.url) as strangers:
        _, talker = await line(strangers), await line(strangers)
        await until_found(nc, talker)
        assert await found(nc) == [talker], "the micro service is none of its kind"
        heard = replica.state.agents[talker].signs
        await eventually(lambda: replica.state.agents[talker].signs >= heard + 2)
        strangers.send_signal(signal.SIGSTOP)
        assert (await until_status(nc, "offline", talker, within=20.0))["status_reason"] == "heartbeat_timeout"


async def test_vitals_of_strangers_come_from_the_registry_alone(
    start: Start, nc: Client, nats_server: NatsServer
) -> None:
    """What a request of somebody else carries, as a server says, is not one of this registry's replicas."""
    replica = await start(identity="request-info")
    async with serving(nats_server.url) as service:
        await eventually(lambda: service.id in replica.state.agents)
        forged = {"agent_id": service.id, "incarnation": 1, "load_factor": 1.0, "metrics": {"forged": 1.0}}
        payload = orjson.dumps(forged)
        await nc.publish("registry.vitals", payload, headers={"Nats-Request-Info": '{"acc":"A","user":"eve"}'})
        for unreadable in (b"", b"[]", b'{"agent_id": 5}'):
            await nc.publish("registry.vitals", unreadable)
        known = replica.state.agents[service.id]
        await eventually(lambda: "requests_served" in known.metrics)
        assert "forged" not in known.metrics


async def test_an_agent_of_ours_that_speaks_synadia_is_one_agent(
    registry: Replica, nats_server: NatsServer, nc: Client
) -> None:
    """It registers itself; neither its answers to calls nor its heartbeats make another one of it."""
    names = Synadia(owner="ada", heartbeat_interval=1)
    ours = Agent("trading_agent", ["trading"], agent_id="ours", nats=nats_server.url, speak=names)
    ours.prompt(lambda text: text)
    async with listening(nc, "agents.hb.>") as beats, ours, listening(nc, "$SRV.PING") as calls:
        await beats.take(2)
        await calls.take(2)
        async with serving(nats_server.url) as stranger:  # whoever was met before would be there before
            await until_found(nc, stranger.id)
            assert set(await found(nc)) == {"ours", stranger.id}
        assert (await agent(nc, "ours"))["adopted"] is None
