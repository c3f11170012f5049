"""A registry, an agent in a process of its own, and the MCP server in this one or in its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from agent_registry.mcp_server.reach import Reach
from agent_registry.mcp_server.server import made
from agent_registry.target import Target
from agents_sdk import RegistryClient
from registry.replica import Replica
from registry.shell.embedded import NatsServer
from tests.cli.running import ROOT, Running, command, environment
from tests.conftest import eventually

Connect = Callable[..., Client]


def stdio(*arguments: str) -> StdioServerParameters:
    """Return how an MCP client starts `agent-registry mcp`."""
    program, *words = command("mcp", *arguments)
    return StdioServerParameters(command=program, args=words, env=environment(), cwd=ROOT)


@pytest.fixture
async def reach(nats_server: NatsServer) -> AsyncIterator[Reach]:
    """A way to the registry."""
    reach = Reach(Target.resolve(nats_server.url, None, None, "registry"))
    yield reach
    await reach.close()


@pytest.fixture
def here(registry: Replica, reach: Reach) -> Connect:
    """Returns a client of a server in this process."""
    return lambda **options: Client(made(reach, **{"allow_calls": False, **options}))


@pytest.fixture
async def quoter(registry: Replica, nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Running]:
    """The agent of `examples/agent_card.py`, in a process of its own."""
    program = [sys.executable, str(ROOT / "examples" / "agent_card.py")]
    with Running(program, tmp_path / "quoter", environment(NATS_URL=nats_server.url)) as running:
        yield running
        await asyncio.to_thread(running.end)  # it says goodbye to the registry, which is on this loop


@pytest.fixture
async def quoter_id(quoter: Running, nats_server: NatsServer) -> str:
    """Its id, once it is there."""
    found: list[str] = []
    async with RegistryClient(nats_server.url) as client:

        async def is_there() -> bool:
            found[:] = [agent.agent_id for agent in await client.discover_agents()]
            return bool(found)

        await eventually(is_there, within=20, seen=quoter)
    return found[0]


async def told(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that has to succeed, and return its answer, which is the same as text and as an object."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    answer: dict[str, Any] = result.structured_content
    return answer


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """Call a tool that has to fail, and return what it says."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.content
    assert result.structured_content is None
    (content,) = result.content
    return str(content.text)
