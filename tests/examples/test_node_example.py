"""The agent in Node.js: a client nobody here wrote, and no SDK of ours."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents_sdk import RegistryClient
from tests.cli.running import Running, Up, environment, until
from tests.conftest import eventually
from tests.examples.conftest import EXAMPLES
from tests.npm import installed as installed_by_npm

NODE = EXAMPLES / "node"

Node = Callable[..., Running]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its packages, as `npm ci` installs them from the lock file."""
    return installed_by_npm(NODE, tmp_path_factory.mktemp("node"))


@pytest.fixture
def node(installed: Path, up: Up, tmp_path: Path) -> Iterator[Node]:
    """Runs the agent; what still runs is ended with the test."""
    running: list[Running] = []

    def run(**env: str) -> Running:
        changes = {"NATS_URL": up.url, "HEARTBEAT_INTERVAL": "0.5", **env}
        words = ["node", str(installed / "agent.js")]
        running.append(Running(words, tmp_path / f"node-{len(running)}", environment(**changes)))
        return running[-1]

    yield run
    for process in running:
        with process:
            pass


def registrations(process: Running) -> int:
    return process.stdout.count("registered node-agent")


async def registered(process: Running, times: int = 1) -> None:
    await asyncio.to_thread(until, lambda: registrations(process) >= times or process.process.poll() is not None)
    assert process.process.poll() is None, process.stderr


async def test_it_registers_beats_serves_and_leaves(client: RegistryClient, node: Node) -> None:
    process = node()
    await registered(process)
    (agent,) = await client.discover_agents()
    assert (agent.agent_id, agent.agent_type, agent.max_concurrency) == ("node-agent", "node_agent", 8)
    first = agent.last_heartbeat

    async def has_beaten() -> bool:
        known = await client.get_agent_info("node-agent")
        return known is not None and known.last_heartbeat > first and known.load_age is not None

    await eventually(has_beaten)
    answer = await client.call("trading", "quote", {"symbol": "BTC"})
    assert answer["price"] == 42
    assert answer["from"].startswith("Node.js v")
    process.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.process.wait, 20) == 0
    assert await client.get_agent_info("node-agent") is None
    assert process.stderr == ""


async def test_forgotten_it_registers_again(client: RegistryClient, node: Node) -> None:
    """Its next heartbeat is answered `not_found`, which is all that it needs to know."""
    process = node()
    await registered(process)
    assert await client.deregister_agent("node-agent")
    await registered(process, times=2)
    assert await client.get_agent_info("node-agent") is not None


async def test_told_to_drain_it_leaves(client: RegistryClient, node: Node) -> None:
    process = node()
    await registered(process)
    await client.drain_agent("node-agent")
    assert await asyncio.to_thread(process.process.wait, 20) == 0
    assert await client.get_agent_info("node-agent") is None


async def test_replaced_it_stops_without_saying_goodbye_for_the_other(client: RegistryClient, node: Node) -> None:
    process = node()
    await registered(process)
    other = {
        "agent_type": "node_agent",
        "capabilities": ["trading"],
        "agent_id": "node-agent",
        "instance_id": "another",
        "takeover": True,
    }
    receipt = await client.register(other)
    assert await asyncio.to_thread(process.process.wait, 20) == 0
    known = await client.get_agent_info("node-agent")
    assert known is not None
    assert known.incarnation == receipt.incarnation


async def test_killed_and_started_again_it_has_its_id_at_once(client: RegistryClient, node: Node) -> None:
    """Nobody answers for the one that is gone, so nobody has to wait for its lease to run out."""
    process = node()
    await registered(process)
    process.process.kill()
    process.process.wait()
    again = node()
    await registered(again)
    known = await client.get_agent_info("node-agent")
    assert known is not None
    assert (known.incarnation, known.status) == (2, "active")


async def test_what_goes_wrong_is_told_as_an_error(client: RegistryClient, node: Node) -> None:
    await registered(node())
    reply = await client._connection.request("agent.node-agent.quote", b"not JSON", 5.0)
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error-Code"] == "500"
    assert json.loads(reply.data)["error"]["message"].startswith("quote: ")


async def test_what_is_refused_for_good_is_not_tried_again(client: RegistryClient, node: Node) -> None:
    await registered(node())
    other = node()
    assert await asyncio.to_thread(other.process.wait, 20) == 0
    assert "leaving: agent_id: 'node-agent' is held by instance" in other.stdout


async def test_a_restart_of_everything_else_is_survived(up: Up, node: Node, tmp_path: Path) -> None:
    process = node()
    await registered(process)
    port = up.url.rpartition(":")[2]
    up.process.kill()
    up.process.wait()
    with Up(tmp_path / "up", "--port", port) as again:
        async with RegistryClient(again.url, timeout=10.0) as client:
            before = await client.get_agent_info("node-agent")
            assert before is not None
            assert before.incarnation == 1

            async def beats_again() -> bool:
                known = await client.get_agent_info("node-agent")
                return known is not None and known.last_heartbeat > before.last_heartbeat and known.status == "active"

            await eventually(beats_again, within=20)


def test_the_lock_file_names_no_registry_host() -> None:
    """So that `npm ci` asks whatever registry a machine is configured for."""
    text = (NODE / "package-lock.json").read_text()
    assert "http" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
