"""The command as an MCP client runs it: in a process of its own, spoken to over its standard input and output."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from nats.aio.client import Client as NatsClient

from registry.replica import Replica
from registry.shell.embedded import NatsServer
from tests.cli.conftest import Do, do  # noqa: F401 - a fixture
from tests.cli.running import ROOT, WITHIN, command, environment
from tests.conftest import eventually
from tests.contract import wire
from tests.mcp_server.conftest import refused, stdio, told

LOOKING = [
    "list_capabilities", "discover_agents", "get_agent", "registry_stats", "recent_events", "scaling_report",
]  # fmt: skip

NOBODY = "nats://127.0.0.1:1"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_lists_the_tools_finds_an_agent_and_calls_it(
    nats_server: NatsServer, quoter_id: str, mode: str
) -> None:
    """With the protocol as it is since 2026, and with the handshake that it had before."""
    async with Client(stdio("--nats", nats_server.url, "--allow-calls"), mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [*LOOKING, "call_agent"]
        found = await told(client, "discover_agents", capabilities=["trading"])
        assert [agent["agent_id"] for agent in found["agents"]] == [quoter_id]
        assert (await told(client, "get_agent", agent_id=quoter_id))["topics"] == ["quote"]
        answer = await told(client, "call_agent", capability="trading", topic="quote", payload={"symbol": "BTC"})
        assert answer == {"answer": {"symbol": "BTC", "price": 42.0}}


async def test_without_leave_nothing_can_be_called(nats_server: NatsServer, quoter_id: str) -> None:
    async with Client(stdio("--nats", nats_server.url)) as client:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == LOOKING
        assert all(tool.annotations.read_only_hint for tool in tools)
        with pytest.raises(Exception, match="was started without --allow-calls"):
            await client.call_tool("call_agent", {"capability": "trading", "topic": "quote"})


async def test_it_outlives_nats(nats_server: NatsServer, registry: Replica, tmp_path: Path) -> None:
    """A tool says that NATS is away, and works again when it is back."""
    async with Client(stdio("--nats", nats_server.url)) as client:
        assert (await told(client, "registry_stats"))["registered_agents"] == 0
        await nats_server.stop()
        said = await refused(client, "registry_stats")
        assert said.startswith("unavailable: ")
        port = int(nats_server.url.rpartition(":")[2])
        again = await NatsServer.start(port=port, store=tmp_path / "nats")
        try:

            async def is_back() -> bool:
                return not (await client.call_tool("registry_stats", {})).is_error

            await eventually(is_back, within=20)
        finally:
            await registry.stop()
            await again.stop()


async def test_it_starts_without_nats() -> None:
    async with Client(stdio("--nats", NOBODY)) as client:
        assert len((await client.list_tools()).tools) == len(LOOKING)
        for _ in range(2):
            said = await refused(client, "list_capabilities")
            assert said == f"unavailable: cannot reach NATS at {NOBODY}: connection refused"


def line(number: int | None, method: str, **params: Any) -> str:
    numbered = {} if number is None else {"id": number}
    return json.dumps({"jsonrpc": "2.0", **numbered, "method": method, "params": params}) + "\n"


HANDSHAKE = line(
    1, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "test", "version": "1"}
)
READY = line(None, "notifications/initialized")


def started(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command("mcp", *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(), cwd=ROOT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    say(process, HANDSHAKE, READY)
    assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "agent-registry"
    return process


def say(process: subprocess.Popen[str], *lines: str) -> None:
    assert process.stdin is not None
    process.stdin.write("".join(lines))
    process.stdin.flush()


def _end_of_input(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)


def _interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def test_it_ends_when_nobody_reads_its_answers() -> None:
    with started("--nats", NOBODY) as process:
        assert process.stdout is not None
        process.stdout.close()
        say(process, line(2, "tools/list"))
        assert process.wait(WITHIN) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_it_ends_when_its_input_cannot_be_read(tmp_path: Path) -> None:
    with (tmp_path / "input").open("wb") as unreadable:
        done = subprocess.run(
            command("mcp", "--nats", NOBODY), stdin=unreadable, capture_output=True, text=True,
            env=environment(), cwd=ROOT, timeout=WITHIN, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert "standard input cannot be read" in done.stderr


@pytest.mark.parametrize("end", [_end_of_input, _stop, _interrupt])
async def test_it_ends_in_order(
    registry: Replica, nats_server: NatsServer, nc: NatsClient, end: Callable[[subprocess.Popen[str]], None]
) -> None:
    """When its client has gone, and when it is asked to, though nothing more comes in. A long call is given up."""
    await wire.told(nc, "registry.register", wire.TRADER)
    with started("--nats", nats_server.url, "--allow-calls") as process:
        async with wire.listening(nc, "agent.trader-1.quote") as heard:
            call = {"capability": "trading", "topic": "quote", "timeout": 60}
            say(process, line(2, "tools/call", name="call_agent", arguments=call))
            await heard.next()
            end(process)
            await eventually(lambda: process.poll() is not None, within=WITHIN)
        assert process.returncode == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_only_the_protocol_is_on_standard_output() -> None:
    """Whatever comes in: each line that goes out is a message of the protocol."""
    with started("--nats", NOBODY) as process:
        assert process.stdout is not None
        say(process, line(2, "tools/call", name="registry_stats"), "no JSON\n", line(3, "tools/call", name="nothing"))
        answers: dict[int, Any] = {}
        while not {2, 3} <= set(answers):
            message = json.loads(process.stdout.readline())
            assert message["jsonrpc"] == "2.0"
            answers[message.get("id")] = message
        _end_of_input(process)
        assert (process.wait(WITHIN), process.stdout.read()) == (0, "")
    assert answers[2]["result"]["isError"] is True
    assert answers[3]["error"]["message"] == "there is no tool 'nothing'"


def test_without_the_sdk_one_line_says_what_to_install(do: Do, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.delitem(sys.modules, "agent_registry.mcp_server.server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp_types", None)  # what importing it then raises is what it is without it
    code, out, err = do("mcp")
    assert (code, out) == (2, "")
    assert err.splitlines()[0].startswith("error: the MCP SDK is not installed")
    assert "agent-registry[mcp]" in err.splitlines()[1]


async def test_the_configuration_in_the_readme_is_true(nats_server: NatsServer, registry: Replica) -> None:
    """With another server's URL, and the program where it is."""
    (configuration,) = re.findall(r"```json\n(\{\n  \"mcpServers\".*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (server,) = json.loads(configuration)["mcpServers"].values()
    assert server["command"].endswith("agent-registry")
    arguments = [nats_server.url if word.startswith("nats://") else word for word in server["args"]]
    program, *words = command(*arguments)
    parameters = StdioServerParameters(command=program, args=words, env=environment(), cwd=ROOT)
    async with Client(parameters) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == LOOKING
        assert (await told(client, "registry_stats"))["registered_agents"] == 0
