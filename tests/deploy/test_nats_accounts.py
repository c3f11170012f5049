"""`deploy/nats-accounts.conf`: a registry and its agents in accounts of their own, on a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from agents_sdk import Agent, RegistryClient, ServiceQuery
from agents_sdk.protocol import subjects
from registry.core.events import ConnectionClosed, Event
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.nats_process import NatsProcess, find_binary
from tests.conftest import eventually
from tests.contract.wire import TRADER, Inbox, settle, stored_events, told, until_status

CONFIG = Path(__file__).parents[2] / "deploy" / "nats-accounts.conf"

Login = Callable[..., Any]


def environment(folder: Path) -> dict[str, str]:
    """What the file asks for: each user's password is its name."""
    passwords = {f"{user.upper()}_PASSWORD": f'"{user}"' for user in ("registry", "agent", "system")}
    return {"CLIENTS": "127.0.0.1:-1", "STORE": json.dumps(str(folder / "jetstream")), **passwords}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    """A real server with the file as it is."""
    server = NatsProcess("nats-server", find_binary(), CONFIG, tmp_path, environment(tmp_path))
    await server.start()
    yield server
    await server.stop()


def url(server: NatsProcess, user: str) -> str:
    """Where a user connects."""
    return server.url.replace("//", f"//{user}:{user}@")


@pytest.fixture
async def replica(server: NatsProcess) -> AsyncIterator[Replica]:
    """A registry, as the file says to start it; nobody is probed in turn."""
    settings = Settings(identity="request-info", health_check_interval=3600.0, reconnect_grace=0.0)
    replica = Replica(settings, url(server, "registry"))
    await replica.start()
    await eventually(lambda: replica.state.connections_watched)
    yield replica
    await replica.stop()


@pytest.fixture
async def login(server: NatsProcess) -> AsyncIterator[Login]:
    """Connects as a user."""
    async with AsyncExitStack() as stack:

        async def connect(user: str, **options: Any) -> Client:
            client = await nats.connect(url(server, user), **options)
            stack.push_async_callback(client.close)
            return client

        yield connect


async def test_a_crashed_agent_is_found_at_once(replica: Replica, login: Login) -> None:
    """Its account is another one than the registry's; both hear that it is gone."""
    crashing, watching = await login("agent", name="agent:trader-1"), await login("agent")
    events = Inbox()
    await watching.subscribe("registry.events.status.offline.trader-1", cb=events.put)
    await settle(watching)
    await crashing.subscribe("agent.trader-1.health_check", cb=Inbox().put)
    await told(crashing, "registry.register.trader-1", {**TRADER, "health_subject": "agent.trader-1.health_check"})
    assert replica.state.agents["trader-1"].record.identity == "AGENTS/agent"
    await crashing.close()
    assert json.loads((await events.next()).data)["reason"] == "no_responders"
    await until_status(watching, "offline")


async def test_an_agent_of_the_sdk_lives_there(server: NatsProcess, replica: Replica) -> None:
    """What the file lets through is enough for it, and for whoever looks for it."""
    agent = Agent("trader", ["trading"], agent_id="ada", nats=url(server, "agent"))

    @agent.handle("quote")
    async def quote(_: dict[str, Any]) -> dict[str, Any]:
        return {"price": 1}

    async with agent, RegistryClient(url(server, "agent")) as client:
        assert await client.call("trading", "quote", {}) == {"price": 1}
        assert [one.replica for one in await client.replicas()] == [replica.replica_id]
        await client.update_agent_health("ada", {"health_score": 0.9})
    await eventually(lambda: "ada" not in replica.state.agents)


async def test_assignments_belong_to_who_asked_for_them(server: NatsProcess, replica: Replica) -> None:
    agent = Agent("trader", ["trading"], agent_id="ada", nats=url(server, "agent"))
    async with agent, RegistryClient(url(server, "agent")) as client:
        assignment = await client.assign(ServiceQuery(capabilities={"trading"}))
        assert replica.state.ledger.live[assignment.assignment_id].identity == "AGENTS/agent"
        assert await agent.release(assignment.assignment_id) is True
        assert await assignment.release() is False


def test_agents_import_all_that_is_for_them() -> None:
    """And all of that are subjects of the registry, but what only operators need."""
    text = CONFIG.read_text()
    exported = re.findall(r'service: "registry\.([^"]+)"', text)
    assert exported
    assert set(re.findall(r'account: REGISTRY, subject: "registry\.([^"]+)"', text)) == {*exported, "events.>"}
    bound = {f"{name}.*" for name in subjects.AGENT_BOUND if name not in (subjects.SUSPEND, subjects.RESUME)}
    assert {name for name in exported if not name.startswith("replica.")} == bound | {
        "discover",
        "capabilities",
        "schema",
        "replicas",
        "assign",
        "release",
    }


async def test_events_are_for_the_registry_alone(replica: Replica, login: Login) -> None:
    """Agents hear nobody's connections end, and what they make up reaches nobody but themselves."""
    closed: list[str] = []
    dispatch = replica.connections._dispatch

    async def noting(event: Event) -> None:
        if isinstance(event, ConnectionClosed):
            closed.append(event.name)
        await dispatch(event)

    replica.connections._dispatch = noting
    spy, heard = await login("agent"), Inbox()
    await spy.subscribe("$SYS.>", cb=heard.put)
    await settle(spy)
    for account in ("AGENTS", "REGISTRY"):
        forged = {"client": {"id": 1, "name": "agent:forged"}, "server": {"id": "S"}}
        await spy.publish(f"$SYS.ACCOUNT.{account}.DISCONNECT", json.dumps(forged).encode())
        assert (await heard.next()).subject == f"$SYS.ACCOUNT.{account}.DISCONNECT", "in its own account it may"
    await settle(spy)
    for user in ("registry", "agent"):
        await (await login(user, name=f"agent:{user}")).close()
    await eventually(lambda: len(closed) == 2)
    assert closed == ["agent:registry", "agent:agent"]
    await settle(spy)
    assert heard.empty()


async def test_agents_write_no_events(replica: Replica, login: Login) -> None:
    """What they publish under the names of events stays in their own account."""
    agent, registry = await login("agent"), await login("registry")
    await agent.publish("registry.events.status.offline.forged", b"{}")
    await settle(agent)
    await told(agent, "registry.register.trader-1", TRADER)
    (event,) = await stored_events(registry, 1)
    assert event.subject == "registry.events.status.active.trader-1"


def test_nobody_else_may_import_them(tmp_path: Path) -> None:
    """An account that helps itself to events of another one keeps the server from starting."""
    text = CONFIG.read_text()
    line = '      { stream: { account: REGISTRY, subject: "registry.events.>" } }\n'
    assert text.count(line) == 1
    for account in ("REGISTRY", "AGENTS", "*"):
        wanted = f'      {{ stream: {{ account: SYS, subject: "$SYS.ACCOUNT.{account}.DISCONNECT" }} }}\n'
        changed = tmp_path / "changed.conf"
        changed.write_text(text.replace(line, line + wanted))
        done = subprocess.run(
            [find_binary(), "-t", "-c", str(changed)],
            env={**os.environ, **environment(tmp_path)}, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert "stream import not authorized" in done.stderr, done.stderr
