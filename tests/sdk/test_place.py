"""An agent says through which connection it is registered, and its connection says whose it is."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from nats.aio.client import Client

from agents_sdk import Agent
from agents_sdk.connection import Connection
from agents_sdk.dial import Address
from registry.replica import Replica
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.contract.wire import told


async def named(nc: Client, name: str) -> dict[str, Any]:
    """By what the server knows the one connection of that name."""
    answer = json.loads((await nc.request("$SYS.REQ.ACCOUNT.PING.CONNZ", b"")).data)
    (found,) = (each for each in answer["data"]["connections"] if each.get("name") == name)
    return {"server_id": answer["server"]["id"], "client_id": found["cid"]}


async def test_it_registers_where_it_is_and_again_where_it_is_then(
    nats_server: NatsServer, registry: Replica, nc: Client
) -> None:
    """The registry knows the connection on which health checks are answered, also after NATS was away."""
    async with Agent("trader", ["trading"], agent_id="a", nats=nats_server.url):
        before = await named(nc, "agent:a")
        assert registry.state.agents["a"].record.connection == before
        os.kill(nats_server.pid, signal.SIGKILL)
        await eventually(lambda: nc.stats["reconnects"] > 0 and registry.bus.reconnects > 0, within=20.0)
        await told(nc, "registry.deregister.a")
        await eventually(lambda: "a" in registry.state.agents, within=20.0)
        after = await named(nc, "agent:a")
        assert registry.state.agents["a"].record.connection == after
        assert after["server_id"] != before["server_id"]


async def test_a_connection_that_is_not_there_is_nowhere(nats_server: NatsServer) -> None:
    connection = Connection(Address((nats_server.url,)))
    assert connection.place is None
    await connection.open()
    assert connection.place is not None
    await connection.close()
    assert connection.place is None
