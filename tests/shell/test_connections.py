"""Connections that end: what a registry hears of them, what it makes of that, and whether it knows that it hears."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from registry.core.events import ConnectionClosed, ConnectionsWatched, Event
from registry.replica import Replica
from registry.settings import Settings
from registry.shell import connections
from registry.shell.bus_nats import Bus
from registry.shell.connections import TRIAL, Connections
from registry.shell.embedded import NatsServer
from tests.conftest import Start, eventually
from tests.contract.wire import TRADER, agent, answering, settle, stats, told, until_status
from tests.sdk.outage import Server

EVENTS = "$SYS.ACCOUNT.AGENTS.DISCONNECT"

IMPORT = 'imports: [ { stream: { account: SYS, subject: "$SYS.ACCOUNT.AGENTS.DISCONNECT" } } ]'
EXPORT = 'exports: [ { stream: "$SYS.ACCOUNT.*.DISCONNECT", account_token_position: 3 } ]'
TELLING = f"""accounts {{
  AGENTS {{ jetstream: enabled, users: [ {{ user: a, password: a }} ]
    {IMPORT} }}
  SYS {{ users: [ {{ user: s, password: s }} ]
    {EXPORT} }}
}}
system_account: SYS
no_auth_user: a"""
NOT_TELLING = TELLING.replace(IMPORT, "").replace(EXPORT, "")


@pytest.fixture
def settings() -> Settings:
    """Nobody is probed in turn, and nobody is waited for."""
    return Settings(health_check_interval=3600.0, reconnect_grace=0.0)


class Heard:
    """Connections of its own, and what they have told."""

    def __init__(self, bus: Bus, url: str) -> None:
        self.events: list[Event] = []
        self.connections = Connections(bus, lambda name: Bus(url, name), self.take)

    async def take(self, event: Event) -> None:
        """Take what would go to the core."""
        self.events.append(event)

    @property
    def closed(self) -> list[tuple[str, str, int, str]]:
        """The connections that ended."""
        return [
            (event.name, event.server_id, event.client_id, event.reason)
            for event in self.events
            if isinstance(event, ConnectionClosed)
        ]

    @property
    def watched(self) -> list[bool]:
        """Whether events come, as it was found out one time after the other."""
        return [event.watched for event in self.events if isinstance(event, ConnectionsWatched)]


@pytest.fixture
async def heard(bus: Bus, nats_server: NatsServer) -> AsyncIterator[Heard]:
    """What is heard on a server that tells."""
    heard = Heard(bus, nats_server.url)
    await heard.connections.start()
    await eventually(lambda: heard.watched == [True])
    yield heard
    await heard.connections.stop()


async def test_who_when_and_why(heard: Heard, nats_server: NatsServer, nc: Client) -> None:
    """Each end is told once, with the name, and by what the server knows the connection."""
    client = await nats.connect(nats_server.url, name="agent:trader-1")
    place = (client._server_info["server_id"], client.client_id)
    await client.close()
    await eventually(lambda: bool(heard.closed))
    assert heard.closed == [("agent:trader-1", *place, "Client Closed")]


NOT_OF_AGENTS = [
    {"client": {"id": 1, "name": "trader-1", "kind": "Leafnode"}, "server": {"id": "S"}},
    {"client": {"id": 1, "name": f"{TRIAL}1"}, "server": {"id": "S"}, "reason": "Client Closed"},
]
MALFORMED: list[Any] = [
    b"", b"\xff", b"{", [], 1, None, "x", {}, {"client": 1, "server": {"id": "S"}},
    {"client": {"id": "many", "name": "x"}, "server": {"id": "S"}},
    {"client": {"id": 1, "name": ["x"]}, "server": {"id": "S"}},
    {"client": {"id": 1, "name": "x"}, "server": {}},
    {"client": {"id": 1, "name": "x"}, "server": {"id": "S"}, "reason": 5},
]  # fmt: skip


async def test_what_is_none_of_ours_is_ignored(
    heard: Heard, nats_server: NatsServer, nc: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that comes on the subject ends the hearing, or fills the log."""
    for payload in (*NOT_OF_AGENTS, *MALFORMED):
        await nc.publish(EVENTS, payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    await nc.publish(EVENTS, json.dumps({"client": {"id": 1, "name": "last"}, "server": {"id": "S"}}).encode())
    await eventually(lambda: bool(heard.closed))
    assert heard.closed == [("last", "S", 1, "")]
    assert caplog.text.count("connection_event_unreadable") == 1
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("name", ["agent:trader-1", "trader-1"])
async def test_an_agent_whose_connection_ends_is_asked_at_once(registry: Replica, nc: Client, name: str) -> None:
    """It answers no more: it is gone, long before its turn to be probed, or the end of its lease."""
    await eventually(lambda: registry.state.connections_watched)
    await told(nc, "registry.register", {**TRADER, "health_subject": "agent.trader-1.health_check"})
    theirs = await nats.connect(registry.bus.url, name=name)
    await theirs.subscribe("agent.trader-1.health_check", cb=_silent)
    await settle(theirs)
    await theirs.close()
    assert (await until_status(nc, "offline"))["status_reason"] == "no_responders"


async def _silent(_: Any) -> None:
    """Never answer."""


async def test_an_agent_that_answers_stays(registry: Replica, nc: Client) -> None:
    """It has connected anew, or somebody has only used its name."""
    await eventually(lambda: registry.state.connections_watched)
    await told(nc, "registry.register", {**TRADER, "health_subject": "agent.trader-1.health_check"})
    async with answering(nc, "agent.trader-1.health_check", {"health_score": 0.9}) as probes:
        theirs = await nats.connect(registry.bus.url, name="agent:trader-1")
        await theirs.close()
        await probes.next()
        await eventually(lambda: not registry.state.probing)
    assert (await agent(nc))["status"] == "active"


async def test_followers_hear_too(start: Start, nc: Client) -> None:
    leader, follower = await start(), await start()
    await eventually(lambda: leader.state.connections_watched and follower.state.connections_watched)
    assert (await stats(nc))["connections_watched"] is True


async def test_a_server_that_was_away(start: Start, nats_server: NatsServer) -> None:
    """What is not connected hears nothing; when it is again, it finds out anew."""
    replica = await start()
    await eventually(lambda: replica.state.connections_watched)
    told_of: list[bool] = []
    replica.connections._dispatch = lambda event: _noting(replica, told_of, event)
    os.kill(nats_server.pid, signal.SIGKILL)
    await eventually(lambda: told_of == [False, True], within=20.0)


async def _noting(replica: Replica, told_of: list[bool], event: Event) -> None:
    if isinstance(event, ConnectionsWatched):
        told_of.append(event.watched)
    await replica.dispatch(event)


# Servers that do not tell.


@pytest.fixture
async def mute(tmp_path: Path) -> AsyncIterator[Server]:
    """A server without a system account for anybody; not started."""
    server = Server(tmp_path)
    yield server
    await server.kill()


async def of(server: Server, settings: Settings) -> Replica:
    """Start a replica."""
    replica = Replica(settings, server.url)
    await replica.start()
    return replica


@pytest.mark.parametrize("config", ["", NOT_TELLING], ids=["no accounts", "no export"])
async def test_a_server_that_tells_nothing(
    mute: Server, settings: Settings, config: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All goes on as ever; the log has one line that says what is not heard, and none that warns."""
    monkeypatch.setattr(connections, "TRIAL_TIMEOUT", 0.2)
    caplog.set_level("INFO")
    await mute.start(config)
    replica = await of(mute, settings)
    nc = await nats.connect(mute.url)
    await told(nc, "registry.register", TRADER)
    await eventually(lambda: "connections_not_watched" in caplog.text)
    replica.connections.doubt()
    await eventually(lambda: not replica.connections._doubted.is_set())
    assert (await stats(nc))["connections_watched"] is False
    assert (await stats(nc))["nats"]["errors"] == 0
    await nc.close()
    await replica.stop()
    assert caplog.text.count("'event': 'connection") == 1, caplog.text
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_it_does_not_delay_start_or_stop(mute: Server, settings: Settings, nc: Client) -> None:
    """It would be tried for six seconds: meanwhile requests are answered; and a stop does not wait for it."""
    await mute.start("")
    before = asyncio.all_tasks()
    async with asyncio.timeout(connections.TRIAL_TIMEOUT):
        replica = await of(mute, settings)
        await replica.stop()
    await eventually(lambda: asyncio.all_tasks() <= before)


async def test_a_server_that_is_configured_anew(
    mute: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first connection that ends after that shows it; nobody has to restart a registry."""
    monkeypatch.setattr(connections, "TRIAL_TIMEOUT", 0.2)
    await mute.start(NOT_TELLING)
    replica = await of(mute, settings)
    await eventually(lambda: replica.connections._told is False)
    mute.reload(TELLING)

    async def noticed() -> bool:
        await (await nats.connect(mute.url)).close()
        return replica.state.connections_watched

    await eventually(noticed)
    await replica.stop()


async def test_a_user_who_may_not_listen(
    mute: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's refusal is logged once; everything else works."""
    monkeypatch.setattr(connections, "TRIAL_TIMEOUT", 0.2)
    denied = TELLING.replace("password: a }", 'password: a, permissions: { subscribe: { deny: "$SYS.ACCOUNT.>" } } }')
    await mute.start(denied)
    replica = await of(mute, settings)
    await eventually(lambda: replica.connections._told is False)
    assert caplog.text.count("nats_error") == 1
    assert "permissions violation" in caplog.text
    await replica.stop()
